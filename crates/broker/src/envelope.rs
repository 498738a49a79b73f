//! The part of a request's header that decides how the response is written.

use bytes::Bytes;
use milena_messages::header::ResponseHeader;
use milena_messages::{ApiKey, Message};
use milena_wire::{Reader, WireFrame, Writer};

use crate::refused::{Refusal, Refused};

/// The frame of a SASL token without a header.
pub(crate) fn bare(token: &Bytes) -> Result<WireFrame, Refused> {
    let mut writer = Writer::new();
    let mark = writer.begin_frame();
    writer.payload(token);
    let ended = writer.end_frame(mark, "SaslToken");
    ended.map_err(|error| Refusal::Unencodable(ApiKey::SaslAuthenticate, error))?;
    Ok(writer.finish())
}

/// API, version and correlation id of a request. The response is written in this version and carries this id.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Envelope {
    pub(crate) key: ApiKey,
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
}

impl Envelope {
    /// Reads the start of a request, which has the same form in every version of the header.
    pub(crate) fn read(frame: &Bytes) -> Result<Self, Refusal> {
        let mut reader = Reader::new(frame);
        let mut read = || {
            let key = reader.i16("RequestHeader.RequestApiKey")?;
            let version = reader.i16("RequestHeader.RequestApiVersion")?;
            Ok((key, version, reader.i32("RequestHeader.CorrelationId")?))
        };
        let (key, version, correlation_id) = read().map_err(Refusal::Malformed)?;
        let key = ApiKey::from_i16(key).ok_or(Refusal::UnknownKey(key))?;
        Ok(Self { key, version, correlation_id })
    }

    /// The frame of a response.
    pub(crate) fn answer<M: Message>(&self, response: &M) -> Result<WireFrame, Refused> {
        self.answer_at(response, self.version)
    }

    /// The frame of a response in another version than the request's.
    pub(crate) fn answer_at<M: Message>(&self, response: &M, version: i16) -> Result<WireFrame, Refused> {
        let encode = || {
            let mut writer = Writer::new();
            let mark = writer.begin_frame();
            let header = ResponseHeader { correlation_id: self.correlation_id, ..Default::default() };
            header.encode(&mut writer, self.key.response_header_version(version))?;
            response.encode(&mut writer, version)?;
            writer.end_frame(mark, M::NAME)?;
            Ok(writer.finish())
        };
        encode().map_err(|error| Refusal::Unencodable(self.key, error).into())
    }
}

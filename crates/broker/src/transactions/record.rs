//! What the transaction coordinator keeps in its journal: Kafka's TransactionLog records, and its own epoch.

use bytes::Bytes;
use milena_messages::Message;
use milena_messages::transaction_log_record::{TransactionLogKey, TransactionLogValue};
use milena_wire::{EncodeError, Reader, Str};

use super::Transaction;
use crate::journal::{self, copied, decode, encode, transpose};

/// What is kept.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Record {
    Id { id: Str, value: Option<Transaction> },
    Coordinator { epoch: i32 },
}

/// The type of keys that Kafka does not have: there the epoch is that of a partition's leader.
const COORDINATOR: i16 = 1000;
const VERSION: i16 = 1;

impl journal::Record for Record {
    const HEADER: &'static [u8] = b"milena-transactions 1\n";
    const ABOUT: &'static str = "transactions";

    fn encode(&self) -> Result<(Vec<u8>, Option<Vec<u8>>), EncodeError> {
        match self {
            Self::Id { id, value } => {
                let key = TransactionLogKey { transactional_id: id.clone() };
                let key = encode(Some(TransactionLogKey::RECORD_TYPE), &key, 0)?;
                let value = value.as_ref().map(|value| encode(None, &value.to_record(), VERSION));
                Ok((key, value.transpose()?))
            }
            Self::Coordinator { epoch } => {
                Ok((COORDINATOR.to_be_bytes().to_vec(), Some(epoch.to_be_bytes().to_vec())))
            }
        }
    }

    fn decode(key: &Bytes, value: Option<&Bytes>) -> Option<Self> {
        let mut reader = Reader::new(key);
        match reader.i16("Key.Type").ok()? {
            TransactionLogKey::RECORD_TYPE => {
                let id = copied(&TransactionLogKey::decode(&mut reader, 0).ok()?.transactional_id);
                let value =
                    value.map(|value| Transaction::from_record(&decode::<TransactionLogValue>(value)?));
                Some(Self::Id { id, value: transpose(value)? })
            }
            COORDINATOR => Some(Self::Coordinator { epoch: i32::from_be_bytes(*value?.first_chunk()?) }),
            _ => None,
        }
    }
}

//! What debug output shows, and what it does not.

use bytes::Bytes;
use milena_messages::produce::PartitionProduceData;
use milena_messages::sasl_authenticate::SaslAuthenticateRequest;

#[test]
fn secrets_and_records_show_only_their_length() {
    let check = |shown: String, expect: &str| assert_eq!(shown, expect);
    let auth_bytes = Bytes::from_static(b"\0alice\0wonderland");
    check(
        format!("{:?}", SaslAuthenticateRequest { auth_bytes, ..Default::default() }),
        "SaslAuthenticateRequest { auth_bytes: 17 bytes, unknown_tagged_fields: [] }",
    );
    let records = Some(Bytes::from(vec![7; 1 << 20]));
    check(
        format!("{:?}", PartitionProduceData { index: 3, records, ..Default::default() }),
        "PartitionProduceData { index: 3, records: 1048576 bytes, unknown_tagged_fields: [] }",
    );
    check(
        format!("{:?}", PartitionProduceData::default()),
        "PartitionProduceData { index: 0, records: null, unknown_tagged_fields: [] }",
    );
}

//! The APIs that this broker serves. Each has a file with its row of the table and its handler; this file lists the
//! rows and finds the one that a request is for.
//!
//! A handler is a function from a decoded request to a response. It must not know frames or sockets.

#![expect(
    clippy::needless_pass_by_value,
    reason = "handlers have one shape, whether they consume their request or not"
)]

mod add_offsets_to_txn;
mod add_partitions_to_txn;
mod alter_client_quotas;
mod alter_configs;
mod alter_user_scram_credentials;
mod api_versions;
mod consumer_group_describe;
mod consumer_group_heartbeat;
mod create_acls;
mod create_delegation_token;
mod create_partitions;
mod create_topics;
mod delete_acls;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_acls;
mod describe_client_quotas;
mod describe_cluster;
mod describe_configs;
mod describe_delegation_token;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod describe_topic_partitions;
mod describe_transactions;
mod describe_user_scram_credentials;
mod end_txn;
mod expire_delegation_token;
mod fetch;
mod find_coordinator;
mod get_telemetry_subscriptions;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_config_resources;
mod list_groups;
mod list_offsets;
mod list_transactions;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod push_telemetry;
mod renew_delegation_token;
mod row;
mod sasl_authenticate;
mod sasl_handshake;
mod sync_group;
mod txn_offset_commit;
mod update_features;
mod write_txn_markers;

use bytes::Bytes;
use milena_messages::ApiKey;

use crate::call::{Call, Outcome};
use crate::parked::Waiting;
use crate::refused::Refused;

pub(crate) use api_versions::downgrade;
pub(crate) use row::Api;

/// Every API that is served, in the order of their keys, in which they are advertised too. A new API needs its file and
/// a line here.
static APIS: &[Api] = &[
    produce::API,
    fetch::API,
    list_offsets::API,
    metadata::API,
    offset_commit::API,
    offset_fetch::API,
    find_coordinator::API,
    join_group::API,
    heartbeat::API,
    leave_group::API,
    sync_group::API,
    describe_groups::API,
    list_groups::API,
    sasl_handshake::API,
    api_versions::API,
    create_topics::API,
    delete_topics::API,
    delete_records::API,
    init_producer_id::API,
    offset_for_leader_epoch::API,
    add_partitions_to_txn::API,
    add_offsets_to_txn::API,
    end_txn::API,
    write_txn_markers::API,
    txn_offset_commit::API,
    describe_acls::API,
    create_acls::API,
    delete_acls::API,
    describe_configs::API,
    alter_configs::API,
    describe_log_dirs::API,
    sasl_authenticate::API,
    create_partitions::API,
    create_delegation_token::API,
    renew_delegation_token::API,
    expire_delegation_token::API,
    describe_delegation_token::API,
    delete_groups::API,
    incremental_alter_configs::API,
    offset_delete::API,
    describe_client_quotas::API,
    alter_client_quotas::API,
    describe_user_scram_credentials::API,
    alter_user_scram_credentials::API,
    update_features::API,
    describe_cluster::API,
    describe_producers::API,
    describe_transactions::API,
    list_transactions::API,
    consumer_group_heartbeat::API,
    consumer_group_describe::API,
    get_telemetry_subscriptions::API,
    push_telemetry::API,
    list_config_resources::API,
    describe_topic_partitions::API,
];

/// The rows by the numbers of their keys. It does not compile when an API is listed twice.
static BY_KEY: [Option<&Api>; KEYS] = {
    let mut by_key = [None; KEYS];
    let mut index = 0;
    while index < APIS.len() {
        let key = APIS[index].key.as_i16() as usize;
        assert!(by_key[key].is_none(), "an API is listed twice");
        by_key[key] = Some(&APIS[index]);
        index += 1;
    }
    by_key
};

const KEYS: usize = ApiKey::ALL[ApiKey::ALL.len() - 1].as_i16() as usize + 1;

/// The row of an API, if it is served.
pub(crate) fn find(key: ApiKey) -> Option<&'static Api> {
    BY_KEY.get(key.as_i16() as usize).copied().flatten()
}

/// The row of the API that a request is for, if it is served.
pub(crate) fn of(frame: &Bytes) -> Option<&'static Api> {
    find(ApiKey::from_i16(i16::from_be_bytes(*frame.first_chunk()?))?)
}

/// Goes on with a request that was parked.
pub(crate) fn resume(call: &mut Call<'_>, waiting: Waiting) -> Result<Outcome, Refused> {
    match waiting {
        Waiting::Fetch(fetch) => fetch::resume(call, fetch),
        Waiting::Join(join) => join_group::resume(call, join),
        Waiting::Sync(sync) => sync_group::resume(call, sync),
        Waiting::Denied(denied) => Ok(Outcome::Answered(denied.frame)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_go_through_all_tokens_are_heavy() {
        let machine = crate::Broker::builder().machine().expect("starts");
        for key in [
            ApiKey::CreateDelegationToken,
            ApiKey::RenewDelegationToken,
            ApiKey::ExpireDelegationToken,
            ApiKey::DescribeDelegationToken,
        ] {
            let api = find(key).expect("served");
            assert!((api.is_heavy)(&machine.parts, 1), "{key:?}");
        }
    }

    #[test]
    fn each_row_is_found_by_its_key_and_no_other_key_finds_one() {
        let rows: Vec<ApiKey> = APIS.iter().map(|api| api.key).collect();
        assert!(rows.is_sorted_by(|one, next| one < next), "each once, and as Kafka lists them: {rows:?}");
        for &key in ApiKey::ALL {
            let found = find(key).map(|api| api.key);
            assert_eq!(found, rows.contains(&key).then_some(key));
            let frame = Bytes::copy_from_slice(&key.as_i16().to_be_bytes());
            assert_eq!(of(&frame).map(|api| api.key), found);
        }
        for frame in [&[][..], &[0], &[0xff, 0xff], &[0x7f, 0xff]] {
            assert!(of(&Bytes::copy_from_slice(frame)).is_none(), "{frame:?}");
        }
    }
}

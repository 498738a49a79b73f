//! DescribeCluster (60): the cluster's id, controller and nodes. KIP-700, KIP-919 (endpoint types), KIP-1073 (fenced
//! brokers).

use milena_messages::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};
use milena_messages::{ApiKey, ErrorCode};

use super::metadata::{OPERATIONS_OMITTED, cluster_operations};
use super::row::Api;
use crate::call::Call;

const ENDPOINT_BROKERS: i8 = 1;
const ENDPOINT_CONTROLLERS: i8 = 2;

pub(super) const API: Api = Api {
    is_repeatable: true,
    ..Api::new(ApiKey::DescribeCluster, |call, reader| call.answer(reader, handle))
};

fn handle(call: &Call<'_>, request: DescribeClusterRequest) -> DescribeClusterResponse {
    if request.endpoint_type != ENDPOINT_BROKERS {
        let error_code = match request.endpoint_type {
            ENDPOINT_CONTROLLERS => ErrorCode::MISMATCHED_ENDPOINT_TYPE,
            _ => ErrorCode::UNSUPPORTED_ENDPOINT_TYPE,
        };
        return DescribeClusterResponse {
            error_code,
            error_message: Some("This address is a broker's.".into()),
            ..Default::default()
        };
    }
    let (state, listener) = (call.parts.state(), call.peer.listener());
    let listed = state.nodes.values().filter(|node| node.is_up || request.include_fenced_brokers);
    let brokers = listed.map(|node| DescribeClusterBroker {
        broker_id: node.id,
        host: node.endpoint(listener).host.clone(),
        port: i32::from(node.endpoint(listener).port),
        rack: node.rack.clone(),
        is_fenced: !node.is_up,
        ..Default::default()
    });
    let asked = request.include_cluster_authorized_operations;
    let cluster_authorized_operations = if asked { cluster_operations(call) } else { OPERATIONS_OMITTED };
    DescribeClusterResponse {
        cluster_id: state.cluster_id.clone(),
        controller_id: state.controller().unwrap_or(-1),
        brokers: brokers.collect(),
        cluster_authorized_operations,
        ..Default::default()
    }
}

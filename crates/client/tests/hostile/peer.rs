//! Fake peers: scripted bytes, or a one-topic broker that misbehaves at one request.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use milena_messages::api_versions::{ApiVersion, ApiVersionsResponse};
use milena_messages::consumer_group_heartbeat::ConsumerGroupHeartbeatResponse;
use milena_messages::create_topics::{
    CreatableTopic, CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse,
};
use milena_messages::delete_groups::DeleteGroupsResponse;
use milena_messages::describe_groups::DescribeGroupsResponse;
use milena_messages::fetch::{FetchRequest, FetchResponse};
use milena_messages::find_coordinator::FindCoordinatorResponse;
use milena_messages::header::{RequestHeader, ResponseHeader};
use milena_messages::heartbeat::HeartbeatResponse;
use milena_messages::init_producer_id::InitProducerIdResponse;
use milena_messages::join_group::JoinGroupResponse;
use milena_messages::leave_group::LeaveGroupResponse;
use milena_messages::list_groups::{ListGroupsResponse, ListedGroup};
use milena_messages::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
    ListOffsetsTopicResponse,
};
use milena_messages::metadata::{
    MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};
use milena_messages::offset_commit::OffsetCommitResponse;
use milena_messages::offset_delete::OffsetDeleteResponse;
use milena_messages::offset_fetch::OffsetFetchResponse;
use milena_messages::produce::{
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceData, TopicProduceResponse,
};
use milena_messages::sync_group::SyncGroupResponse;
use milena_messages::{ApiKey, ErrorCode, Message, Request};
use milena_wire::{Reader, Writer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// How a peer behaves.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Behaviour {
    /// Answers the first request with these bytes and keeps the connection open.
    Bytes(&'static [u8]),
    /// Answers the first request with these bytes and closes the connection.
    BytesAndClose(&'static [u8]),
    /// Accepts connections, and sends nothing.
    Silent,
    /// A broker with topic `t` of one partition that stores nothing.
    Broker,
    /// The same, which answers these requests with bytes of its own.
    BrokerBut(&'static [ApiKey], &'static [u8]),
    /// The same, but with the size and correlation id that belong there in front.
    BrokerButBody(&'static [ApiKey], &'static [u8]),
    /// As `BrokerBut`, the first time only.
    BrokerOnceBut(ApiKey, &'static [u8]),
    /// As `BrokerBut`, but for the first time.
    BrokerThenBut(ApiKey, &'static [u8]),
    /// The same, which closes the connection upon these requests.
    BrokerThatCloses(ApiKey),
    /// The same, which reads nothing more from a connection after these requests.
    BrokerThatStopsReading(ApiKey),
    /// The same, which hangs up on ApiVersions requests of this version and later ones.
    BrokerThatHangsUpOn(i16),
    /// The same, which answers ApiVersions requests of version 3 and later with this body.
    BrokerWithVersions(&'static [u8]),
    /// A broker that speaks versions 90 to 99 of everything but ApiVersions.
    BrokerFromTheFuture,
}

/// A peer that listens. Dropped, it is gone with all its connections.
pub(crate) struct Peer {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    ended: watch::Receiver<usize>,
    cluster: Arc<Cluster>,
    behaviour: Arc<Mutex<Behaviour>>,
    task: JoinHandle<()>,
}

/// The cluster that a broker describes, and the requests that it got.
pub(crate) struct Cluster {
    /// The name that broker 1 advertises.
    host: String,
    port: u16,
    /// Brokers 2, 3 and so on.
    others: Vec<SocketAddr>,
    /// Topics and how many partitions each has.
    topics: Mutex<BTreeMap<String, i32>>,
    requests: Mutex<BTreeMap<i16, usize>>,
    /// It denies to be the controller for as many requests.
    denials: AtomicUsize,
}

impl Peer {
    pub(crate) async fn start(behaviour: Behaviour) -> Self {
        Self::start_in(behaviour, "127.0.0.1", Vec::new()).await
    }

    /// A broker that advertises itself under `host` and says that these brokers are there besides.
    pub(crate) async fn start_in(behaviour: Behaviour, host: &str, others: Vec<SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("bound");
        let cluster = Arc::new(Cluster {
            host: host.to_owned(),
            port: address.port(),
            others,
            topics: Mutex::new(BTreeMap::from([(String::from("t"), 1)])),
            requests: Mutex::default(),
            denials: AtomicUsize::new(0),
        });
        let of_task = Arc::clone(&cluster);
        let behaviour = Arc::new(Mutex::new(behaviour));
        let behaves = Arc::clone(&behaviour);
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let (ends, ended) = watch::channel(0);
        let ends = Arc::new(ends);
        let is_over = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(async move {
            let mut served = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("accepted");
                count.fetch_add(1, Ordering::Relaxed);
                let (is_over, cluster, behaves) =
                    (Arc::clone(&is_over), Arc::clone(&of_task), Arc::clone(&behaves));
                let ends = Arc::clone(&ends);
                served.spawn(async move {
                    drop(serve(stream, &behaves, &cluster, &is_over).await);
                    ends.send_modify(|ended| *ended += 1);
                });
            }
        });
        Self { address, connections, ended, cluster, behaviour, task }
    }

    /// Gives `topic` this many partitions, and takes it away with none.
    pub(crate) fn set_partitions(&self, topic: &str, count: i32) {
        let mut topics = self.cluster.topics.lock().expect("not poisoned");
        match count {
            0 => drop(topics.remove(topic)),
            count => drop(topics.insert(topic.to_owned(), count)),
        }
    }

    /// How many requests have come.
    pub(crate) fn all_requests(&self) -> usize {
        self.cluster.requests.lock().expect("not poisoned").values().sum()
    }

    /// How many of these requests have come.
    pub(crate) fn requests(&self, key: ApiKey) -> usize {
        self.cluster.requests.lock().expect("not poisoned").get(&key.as_i16()).copied().unwrap_or(0)
    }

    /// Changes the behaviour from now on.
    pub(crate) fn set_behaviour(&self, behaviour: Behaviour) {
        *self.behaviour.lock().expect("not poisoned") = behaviour;
    }

    /// Denies to be the controller when it is asked to make topics, this often.
    pub(crate) fn deny_to_be_controller(&self, times: usize) {
        self.cluster.denials.store(times, Ordering::Relaxed);
    }

    /// Where it listens.
    pub(crate) fn socket_address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Returns when this many connections have ended.
    pub(crate) async fn has_ended(&self, count: usize) {
        self.ended.clone().wait_for(|ended| *ended >= count).await.expect("it listens");
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    behaviour: &Mutex<Behaviour>,
    cluster: &Cluster,
    is_over: &AtomicBool,
) -> std::io::Result<()> {
    loop {
        let size = stream.read_i32().await?;
        let mut frame = vec![0; size as usize];
        stream.read_exact(&mut frame).await?;
        let frame = Bytes::from(frame);
        let key = ApiKey::from_i16(i16::from_be_bytes([frame[0], frame[1]])).expect("a known request");
        let version = i16::from_be_bytes([frame[2], frame[3]]);
        *cluster.requests.lock().expect("not poisoned").entry(key.as_i16()).or_default() += 1;
        let behaviour = *behaviour.lock().expect("not poisoned");
        match behaviour {
            Behaviour::Silent => {}
            Behaviour::Bytes(bytes) => stream.write_all(bytes).await?,
            Behaviour::BytesAndClose(bytes) => return stream.write_all(bytes).await,
            Behaviour::BrokerBut(hostile, bytes) if hostile.contains(&key) => stream.write_all(bytes).await?,
            Behaviour::BrokerButBody(hostile, body) if hostile.contains(&key) => {
                let size = (4 + body.len() as i32).to_be_bytes();
                stream.write_all(&[&size, &frame[4..8], body].concat()).await?;
            }
            Behaviour::BrokerOnceBut(hostile, bytes)
                if hostile == key && !is_over.swap(true, Ordering::Relaxed) =>
            {
                stream.write_all(bytes).await?;
            }
            Behaviour::BrokerThenBut(hostile, bytes)
                if hostile == key && is_over.swap(true, Ordering::Relaxed) =>
            {
                stream.write_all(bytes).await?;
            }
            Behaviour::BrokerThatCloses(hostile) if hostile == key => return Ok(()),
            Behaviour::BrokerThatStopsReading(hostile) if hostile == key => std::future::pending().await,
            Behaviour::BrokerThatHangsUpOn(first) if key == ApiKey::ApiVersions && version >= first => {
                return Ok(());
            }
            Behaviour::BrokerWithVersions(body) if key == ApiKey::ApiVersions && version >= 3 => {
                let size = (4 + body.len() as i32).to_be_bytes();
                stream.write_all(&[&size, &frame[4..8], body].concat()).await?;
            }
            // acks=0 gets no answer.
            _ if key == ApiKey::Produce && acks(&frame, version) == 0 => {}
            _ if key == ApiKey::Fetch => {
                sleep(fetch_wait(&frame, version)).await;
                stream.write_all(&answer(&frame, key, behaviour, cluster)).await?;
            }
            _ => stream.write_all(&answer(&frame, key, behaviour, cluster)).await?,
        }
    }
}

fn request<R: Request>(frame: &Bytes, version: i16) -> R {
    let mut reader = Reader::new(frame);
    RequestHeader::decode(&mut reader, R::KEY.request_header_version(version)).expect("a header");
    R::decode(&mut reader, version).expect("decodes")
}

fn acks(frame: &Bytes, version: i16) -> i16 {
    request::<ProduceRequest>(frame, version).acks
}

/// A fetch answer without records.
fn fetch_wait(frame: &Bytes, version: i16) -> Duration {
    Duration::from_millis(request::<FetchRequest>(frame, version).max_wait_ms.max(0) as u64)
}

/// The answer of a broker.
fn answer(frame: &Bytes, key: ApiKey, behaviour: Behaviour, cluster: &Cluster) -> Vec<u8> {
    let version = i16::from_be_bytes([frame[2], frame[3]]);
    let mut reader = Reader::new(frame);
    let header = RequestHeader::decode(&mut reader, key.request_header_version(version)).expect("a header");
    let mut writer = Writer::new();
    let mark = writer.begin_frame();
    let head = ResponseHeader { correlation_id: header.correlation_id, ..Default::default() };
    head.encode(&mut writer, key.response_header_version(version)).expect("encodes");
    let encoded = match key {
        ApiKey::ApiVersions => versions(behaviour).encode(&mut writer, version),
        ApiKey::Metadata => {
            let request = MetadataRequest::decode(&mut reader, version).expect("decodes");
            metadata(&request, cluster).encode(&mut writer, version)
        }
        ApiKey::InitProducerId => {
            InitProducerIdResponse { producer_id: 1, ..Default::default() }.encode(&mut writer, version)
        }
        ApiKey::Produce => {
            let request = ProduceRequest::decode(&mut reader, version).expect("decodes");
            produced(&request).encode(&mut writer, version)
        }
        ApiKey::ListOffsets => {
            let request = ListOffsetsRequest::decode(&mut reader, version).expect("decodes");
            listed(&request).encode(&mut writer, version)
        }
        ApiKey::CreateTopics => {
            let request = CreateTopicsRequest::decode(&mut reader, version).expect("decodes");
            created(&request, cluster).encode(&mut writer, version)
        }
        ApiKey::Fetch => FetchResponse::default().encode(&mut writer, version),
        ApiKey::FindCoordinator => FindCoordinatorResponse {
            node_id: 1,
            host: cluster.host.as_str().into(),
            port: i32::from(cluster.port),
            ..Default::default()
        }
        .encode(&mut writer, version),
        ApiKey::ListGroups => ListGroupsResponse {
            groups: vec![ListedGroup { group_id: "g".into(), ..Default::default() }],
            ..Default::default()
        }
        .encode(&mut writer, version),
        // It says nothing of what was asked.
        ApiKey::DescribeGroups => DescribeGroupsResponse::default().encode(&mut writer, version),
        ApiKey::OffsetFetch => OffsetFetchResponse::default().encode(&mut writer, version),
        ApiKey::OffsetCommit => OffsetCommitResponse::default().encode(&mut writer, version),
        ApiKey::OffsetDelete => OffsetDeleteResponse::default().encode(&mut writer, version),
        ApiKey::DeleteGroups => DeleteGroupsResponse::default().encode(&mut writer, version),
        ApiKey::LeaveGroup => LeaveGroupResponse::default().encode(&mut writer, version),
        ApiKey::JoinGroup => JoinGroupResponse::default().encode(&mut writer, version),
        ApiKey::SyncGroup => SyncGroupResponse::default().encode(&mut writer, version),
        ApiKey::Heartbeat => HeartbeatResponse::default().encode(&mut writer, version),
        ApiKey::ConsumerGroupHeartbeat => {
            ConsumerGroupHeartbeatResponse::default().encode(&mut writer, version)
        }
        other => panic!("{other:?} is not expected here"),
    };
    encoded.expect("encodes");
    writer.end_frame(mark, "Response").expect("encodes");
    writer.finish().to_vec()
}

fn versions(behaviour: Behaviour) -> ApiVersionsResponse {
    let keys = [
        ApiKey::ApiVersions,
        ApiKey::Metadata,
        ApiKey::InitProducerId,
        ApiKey::Produce,
        ApiKey::ListOffsets,
        ApiKey::Fetch,
        ApiKey::CreateTopics,
        ApiKey::FindCoordinator,
        ApiKey::ListGroups,
        ApiKey::DescribeGroups,
        ApiKey::OffsetFetch,
        ApiKey::OffsetCommit,
        ApiKey::OffsetDelete,
        ApiKey::DeleteGroups,
        ApiKey::LeaveGroup,
        ApiKey::JoinGroup,
        ApiKey::SyncGroup,
        ApiKey::Heartbeat,
        ApiKey::ConsumerGroupHeartbeat,
    ];
    let range = |key: ApiKey| {
        let is_future = matches!(behaviour, Behaviour::BrokerFromTheFuture) && key != ApiKey::ApiVersions;
        let (min_version, max_version) =
            if is_future { (90, 99) } else { (*key.versions().start(), *key.versions().end()) };
        ApiVersion { api_key: key.as_i16(), min_version, max_version, ..Default::default() }
    };
    ApiVersionsResponse { api_keys: keys.map(range).to_vec(), ..Default::default() }
}

fn metadata(request: &MetadataRequest, cluster: &Cluster) -> MetadataResponse {
    let node = |node_id, host: String, port| MetadataResponseBroker {
        node_id,
        host: host.into(),
        port: i32::from(port),
        ..Default::default()
    };
    let others = cluster.others.iter().zip(2..);
    let others = others.map(|(address, id)| node(id, address.ip().to_string(), address.port()));
    let brokers = [node(1, cluster.host.clone(), cluster.port)].into_iter().chain(others).collect();
    let topic = |name: &str| {
        let partition = |partition_index| MetadataResponsePartition {
            partition_index,
            leader_id: 1,
            leader_epoch: 0,
            ..Default::default()
        };
        let count = cluster.topics.lock().expect("not poisoned").get(name).copied().unwrap_or(0);
        MetadataResponseTopic {
            error_code: if count > 0 { ErrorCode::NONE } else { ErrorCode::UNKNOWN_TOPIC_OR_PARTITION },
            name: Some(name.into()),
            partitions: (0..count).map(partition).collect(),
            ..Default::default()
        }
    };
    let asked = request.topics.iter().flatten().filter_map(|topic| topic.name.as_deref());
    MetadataResponse { brokers, controller_id: 1, topics: asked.map(topic).collect(), ..Default::default() }
}

fn created(request: &CreateTopicsRequest, cluster: &Cluster) -> CreateTopicsResponse {
    let denials = &cluster.denials;
    let denies = denials.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
    let topic = |topic: &CreatableTopic| {
        if !denies {
            cluster.topics.lock().expect("not poisoned").insert(topic.name.to_string(), 1);
        }
        CreatableTopicResult {
            name: topic.name.clone(),
            error_code: if denies { ErrorCode::NOT_CONTROLLER } else { ErrorCode::NONE },
            ..Default::default()
        }
    };
    CreateTopicsResponse { topics: request.topics.iter().map(topic).collect(), ..Default::default() }
}

/// ListOffsetsRequest.Topics.Partitions.Timestamp of the end.
const LATEST: i64 = -1;
/// The end of every partition for readers of uncommitted records.
pub(crate) const HIGH_WATERMARK: i64 = 3;

/// Every partition begins at offset 0 and ends at [`HIGH_WATERMARK`]; nothing in it is committed.
fn listed(request: &ListOffsetsRequest) -> ListOffsetsResponse {
    let topic = |topic: &ListOffsetsTopic| ListOffsetsTopicResponse {
        name: topic.name.clone(),
        partitions: topic
            .partitions
            .iter()
            .map(|asked| ListOffsetsPartitionResponse {
                partition_index: asked.partition_index,
                offset: if asked.timestamp == LATEST && request.isolation_level == 0 {
                    HIGH_WATERMARK
                } else {
                    0
                },
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    ListOffsetsResponse { topics: request.topics.iter().map(topic).collect(), ..Default::default() }
}

fn produced(request: &ProduceRequest) -> ProduceResponse {
    let topic = |topic: &TopicProduceData| TopicProduceResponse {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partition_responses: topic
            .partition_data
            .iter()
            .map(|partition| PartitionProduceResponse { index: partition.index, ..Default::default() })
            .collect(),
        ..Default::default()
    };
    ProduceResponse { responses: request.topic_data.iter().map(topic).collect(), ..Default::default() }
}

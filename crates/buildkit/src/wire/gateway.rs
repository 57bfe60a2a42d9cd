//! What a front end asks of the solver (`moby.buildkit.v1.frontend.LLBBridge`).

use std::collections::HashMap;

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Result {
    #[prost(oneof = "ResultResult", tags = "1, 2, 3, 4")]
    pub result: Option<ResultResult>,
    #[prost(map = "string, bytes", tag = "10")]
    pub metadata: HashMap<String, Vec<u8>>,
    #[prost(map = "string, message", tag = "12")]
    pub attestations: HashMap<String, Attestations>,
}

#[derive(Clone, PartialEq, ::prost::Oneof)]
pub enum ResultResult {
    #[prost(string, tag = "1")]
    RefDeprecated(String),
    #[prost(message, tag = "2")]
    RefsDeprecated(RefMapDeprecated),
    #[prost(message, tag = "3")]
    Ref(Ref),
    #[prost(message, tag = "4")]
    Refs(RefMap),
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct RefMapDeprecated {
    #[prost(map = "string, string", tag = "1")]
    pub refs: HashMap<String, String>,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Ref {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(message, optional, tag = "2")]
    pub def: Option<super::llb::Definition>,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct RefMap {
    #[prost(map = "string, message", tag = "1")]
    pub refs: HashMap<String, Ref>,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Attestations {
    #[prost(message, repeated, tag = "1")]
    pub attestation: Vec<Attestation>,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Attestation {
    #[prost(enumeration = "AttestationKind", tag = "1")]
    pub kind: i32,
    #[prost(map = "string, bytes", tag = "2")]
    pub metadata: HashMap<String, Vec<u8>>,
    #[prost(message, optional, tag = "3")]
    pub r#ref: Option<Ref>,
    #[prost(string, tag = "4")]
    pub path: String,
    #[prost(string, tag = "5")]
    pub in_toto_predicate_type: String,
    #[prost(message, repeated, tag = "6")]
    pub in_toto_subjects: Vec<InTotoSubject>,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct InTotoSubject {
    #[prost(enumeration = "InTotoSubjectKind", tag = "1")]
    pub kind: i32,
    #[prost(string, repeated, tag = "2")]
    pub digest: Vec<String>,
    #[prost(string, tag = "3")]
    pub name: String,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ReturnRequest {
    #[prost(message, optional, tag = "1")]
    pub result: Option<Result>,
    #[prost(message, optional, tag = "2")]
    pub error: Option<super::status::Status>,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ReturnResponse {}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct InputsRequest {}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct InputsResponse {
    #[prost(map = "string, message", tag = "1")]
    pub definitions: HashMap<String, super::llb::Definition>,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ResolveImageConfigRequest {
    #[prost(string, tag = "1")]
    pub r#ref: String,
    #[prost(message, optional, tag = "2")]
    pub platform: Option<super::llb::Platform>,
    #[prost(string, tag = "3")]
    pub resolve_mode: String,
    #[prost(string, tag = "4")]
    pub log_name: String,
    #[prost(int32, tag = "5")]
    pub resolver_type: i32,
    #[prost(string, tag = "6")]
    pub session_id: String,
    #[prost(string, tag = "7")]
    pub store_id: String,
    #[prost(message, repeated, tag = "8")]
    pub source_policies: Vec<super::policy::Policy>,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ResolveImageConfigResponse {
    #[prost(string, tag = "1")]
    pub digest: String,
    #[prost(bytes = "vec", tag = "2")]
    pub config: Vec<u8>,
    #[prost(string, tag = "3")]
    pub r#ref: String,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ResolveSourceMetaRequest {
    #[prost(message, optional, tag = "1")]
    pub source: Option<super::llb::SourceOp>,
    #[prost(message, optional, tag = "2")]
    pub platform: Option<super::llb::Platform>,
    #[prost(string, tag = "3")]
    pub log_name: String,
    #[prost(string, tag = "4")]
    pub resolve_mode: String,
    #[prost(message, repeated, tag = "8")]
    pub source_policies: Vec<super::policy::Policy>,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ResolveSourceMetaResponse {
    #[prost(message, optional, tag = "1")]
    pub source: Option<super::llb::SourceOp>,
    #[prost(message, optional, tag = "2")]
    pub image: Option<ResolveSourceImageResponse>,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ResolveSourceImageResponse {
    #[prost(string, tag = "1")]
    pub digest: String,
    #[prost(bytes = "vec", tag = "2")]
    pub config: Vec<u8>,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct SolveRequest {
    #[prost(message, optional, tag = "1")]
    pub definition: Option<super::llb::Definition>,
    #[prost(string, tag = "2")]
    pub frontend: String,
    #[prost(map = "string, string", tag = "3")]
    pub frontend_opt: HashMap<String, String>,
    #[prost(bool, tag = "5")]
    pub allow_result_return: bool,
    #[prost(bool, tag = "6")]
    pub allow_result_array_ref: bool,
    #[prost(bool, tag = "10")]
    pub r#final: bool,
    #[prost(bytes = "vec", tag = "11")]
    pub exporter_attr: Vec<u8>,
    #[prost(message, repeated, tag = "12")]
    pub cache_imports: Vec<CacheOptionsEntry>,
    #[prost(map = "string, message", tag = "13")]
    pub frontend_inputs: HashMap<String, super::llb::Definition>,
    #[prost(bool, tag = "14")]
    pub evaluate: bool,
    #[prost(message, repeated, tag = "15")]
    pub source_policies: Vec<super::policy::Policy>,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct CacheOptionsEntry {
    #[prost(string, tag = "1")]
    pub r#type: String,
    #[prost(map = "string, string", tag = "2")]
    pub attrs: HashMap<String, String>,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct SolveResponse {
    #[prost(string, tag = "1")]
    pub r#ref: String,
    #[prost(message, optional, tag = "3")]
    pub result: Option<Result>,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ReadFileRequest {
    #[prost(string, tag = "1")]
    pub r#ref: String,
    #[prost(string, tag = "2")]
    pub file_path: String,
    #[prost(message, optional, tag = "3")]
    pub range: Option<FileRange>,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct FileRange {
    #[prost(int64, tag = "1")]
    pub offset: i64,
    #[prost(int64, tag = "2")]
    pub length: i64,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ReadFileResponse {
    #[prost(bytes = "vec", tag = "1")]
    pub data: Vec<u8>,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ReadDirRequest {
    #[prost(string, tag = "1")]
    pub r#ref: String,
    #[prost(string, tag = "2")]
    pub dir_path: String,
    #[prost(string, tag = "3")]
    pub include_pattern: String,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ReadDirResponse {
    #[prost(message, repeated, tag = "1")]
    pub entries: Vec<super::stat::Stat>,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct StatFileRequest {
    #[prost(string, tag = "1")]
    pub r#ref: String,
    #[prost(string, tag = "2")]
    pub path: String,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct StatFileResponse {
    #[prost(message, optional, tag = "1")]
    pub stat: Option<super::stat::Stat>,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct EvaluateRequest {
    #[prost(string, tag = "1")]
    pub r#ref: String,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct EvaluateResponse {}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct PingRequest {}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct PongResponse {
    #[prost(message, repeated, tag = "1")]
    pub frontend_api_caps: Vec<super::caps::ApiCap>,
    #[prost(message, repeated, tag = "2")]
    pub llb_caps: Vec<super::caps::ApiCap>,
    #[prost(message, repeated, tag = "3")]
    pub workers: Vec<super::worker::WorkerRecord>,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct WarnRequest {
    #[prost(string, tag = "1")]
    pub digest: String,
    #[prost(int64, tag = "2")]
    pub level: i64,
    #[prost(bytes = "vec", tag = "3")]
    pub short: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "4")]
    pub detail: Vec<Vec<u8>>,
    #[prost(string, tag = "5")]
    pub url: String,
    #[prost(message, optional, tag = "6")]
    pub info: Option<super::llb::SourceInfo>,
    #[prost(message, repeated, tag = "7")]
    pub ranges: Vec<super::llb::Range>,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct WarnResponse {}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct NewContainerRequest {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(message, repeated, tag = "2")]
    pub mounts: Vec<super::llb::Mount>,
    #[prost(enumeration = "super::llb::NetMode", tag = "3")]
    pub network: i32,
    #[prost(message, optional, tag = "4")]
    pub platform: Option<super::llb::Platform>,
    #[prost(message, optional, tag = "5")]
    pub constraints: Option<super::llb::WorkerConstraints>,
    #[prost(message, repeated, tag = "6")]
    pub extra_hosts: Vec<super::llb::HostIp>,
    #[prost(string, tag = "7")]
    pub hostname: String,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct NewContainerResponse {}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ReleaseContainerRequest {
    #[prost(string, tag = "1")]
    pub container_id: String,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ReleaseContainerResponse {}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ExecMessage {
    #[prost(string, tag = "1")]
    pub process_id: String,
    #[prost(oneof = "ExecMessageInput", tags = "2, 3, 4, 5, 6, 7, 8")]
    pub input: Option<ExecMessageInput>,
}

#[derive(Clone, PartialEq, ::prost::Oneof)]
#[allow(clippy::large_enum_variant, reason = "one message at a time")]
pub enum ExecMessageInput {
    #[prost(message, tag = "2")]
    Init(InitMessage),
    #[prost(message, tag = "3")]
    File(FdMessage),
    #[prost(message, tag = "4")]
    Resize(ResizeMessage),
    #[prost(message, tag = "5")]
    Started(StartedMessage),
    #[prost(message, tag = "6")]
    Exit(ExitMessage),
    #[prost(message, tag = "7")]
    Done(DoneMessage),
    #[prost(message, tag = "8")]
    Signal(SignalMessage),
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct InitMessage {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(message, optional, tag = "2")]
    pub meta: Option<super::llb::Meta>,
    #[prost(uint32, repeated, tag = "3")]
    pub fds: Vec<u32>,
    #[prost(bool, tag = "4")]
    pub tty: bool,
    #[prost(enumeration = "super::llb::SecurityMode", tag = "5")]
    pub security: i32,
    #[prost(message, repeated, tag = "6")]
    pub secretenv: Vec<super::llb::SecretEnv>,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ExitMessage {
    #[prost(uint32, tag = "1")]
    pub code: u32,
    #[prost(message, optional, tag = "2")]
    pub error: Option<super::status::Status>,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct StartedMessage {}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct DoneMessage {}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct FdMessage {
    #[prost(uint32, tag = "1")]
    pub fd: u32,
    #[prost(bool, tag = "2")]
    pub eof: bool,
    #[prost(bytes = "vec", tag = "3")]
    pub data: Vec<u8>,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ResizeMessage {
    #[prost(uint32, tag = "1")]
    pub rows: u32,
    #[prost(uint32, tag = "2")]
    pub cols: u32,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct SignalMessage {
    #[prost(string, tag = "1")]
    pub name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub enum AttestationKind {
    Intoto = 0,
    Bundle = 1,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub enum InTotoSubjectKind {
    Itself = 0,
    Raw = 1,
}

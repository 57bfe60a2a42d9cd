//! Our messages against those that buildx knows: every field by itself, with its number and type, goes in and comes out.
//! What buildx knows was written down by `record.py`.

use std::collections::{BTreeMap, BTreeSet};

use buildkit::wire::*;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

const RECORDED: &str = include_str!("fields.txt");
/// Messages hold messages, and some their own kind.
const DEPTH: u32 = 4;

struct Field<'a> {
    number: u32,
    name: &'a str,
    kind: Kind<'a>,
}

enum Kind<'a> {
    One(&'a str),
    Repeated(&'a str),
    Map(&'a str, &'a str),
}

#[derive(Default)]
struct Recorded<'a> {
    messages: BTreeMap<&'a str, Vec<Field<'a>>>,
    enumerations: BTreeMap<&'a str, BTreeSet<i32>>,
}

impl<'a> Recorded<'a> {
    fn read(text: &'a str) -> Self {
        let mut recorded = Self::default();
        let mut last = "";
        for line in text.lines() {
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                ["message", name] => {
                    recorded.messages.insert(name, Vec::new());
                    last = name;
                }
                ["enum", name, ref numbers @ ..] => {
                    let numbers = numbers.iter().map(|number| number.parse().unwrap()).collect();
                    recorded.enumerations.insert(name, numbers);
                }
                [number, name, ref kind @ ..] => {
                    let kind = match *kind {
                        ["one", of] => Kind::One(of),
                        ["repeated", of] => Kind::Repeated(of),
                        ["map", key, value] => Kind::Map(key, value),
                        _ => panic!("{line}"),
                    };
                    let field = Field { number: number.parse().unwrap(), name, kind };
                    recorded.messages.get_mut(last).unwrap().push(field);
                }
                _ => panic!("{line}"),
            }
        }
        recorded
    }

    /// A message with this field alone.
    fn sample(&self, field: &Field<'_>, depth: u32) -> Vec<u8> {
        let mut out = Vec::new();
        match field.kind {
            Kind::One(of) => self.value(field.number, of, depth, &mut out),
            Kind::Repeated(of) => match self.number(of) {
                // Numbers of one field are packed.
                Some(bytes) => bytes_field(field.number, &bytes, &mut out),
                None => (0..2).for_each(|_| self.value(field.number, of, depth, &mut out)),
            },
            Kind::Map(key, value) => {
                let mut entry = Vec::new();
                self.value(1, key, depth, &mut entry);
                self.value(2, value, depth, &mut entry);
                bytes_field(field.number, &entry, &mut out);
            }
        }
        out
    }

    fn value(&self, number: u32, of: &str, depth: u32, out: &mut Vec<u8>) {
        if let Some(bytes) = self.number(of) {
            let kind = if of == "double" { WireType::SixtyFourBit } else { WireType::Varint };
            encode_key(number, kind, out);
            out.extend(bytes);
            return;
        }
        match of {
            "string" => bytes_field(number, "é".as_bytes(), out),
            // No text.
            "bytes" => bytes_field(number, &[0xff, 0], out),
            "google.protobuf.Timestamp" | "google.protobuf.Any" => bytes_field(number, &[], out),
            message => {
                let fields = &self.messages[message];
                // The first of those that exclude each other would be lost: one field is enough to tell messages apart.
                let inside = fields.last().filter(|_| depth > 0);
                bytes_field(number, &inside.map_or_else(Vec::new, |field| self.sample(field, depth - 1)), out);
            }
        }
    }

    /// A number that a narrower type, or one with another sign, would not give back.
    fn number(&self, of: &str) -> Option<Vec<u8>> {
        let number = match of {
            "bool" => 1,
            "int32" | "int64" => u64::MAX,
            "uint32" => u64::from(u32::MAX),
            "uint64" => u64::MAX,
            "double" => return Some(1.5f64.to_le_bytes().to_vec()),
            enumeration => u64::try_from(*self.enumerations.get(enumeration)?.last()?).unwrap(),
        };
        let mut out = Vec::new();
        encode_varint(number, &mut out);
        Some(out)
    }
}

fn bytes_field(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn through<M: Message + Default>(bytes: &[u8]) -> Result<Vec<u8>, String> {
    M::decode(bytes).map(|message| message.encode_to_vec()).map_err(|error| error.to_string())
}

type Through = fn(&[u8]) -> Result<Vec<u8>, String>;

macro_rules! messages {
    ($($name:literal => $ours:ty,)*) => {
        const MESSAGES: &[(&str, Through)] = &[$(($name, through::<$ours>)),*];
    };
}

macro_rules! enumerations {
    ($($name:literal => $ours:ty,)*) => {
        const ENUMERATIONS: &[(&str, fn(i32) -> bool)] = &[$(($name, |number| <$ours>::try_from(number).is_ok())),*];
    };
}

#[test]
fn every_field_is_buildx_s() {
    let recorded = Recorded::read(RECORDED);
    let ours: BTreeMap<_, _> = MESSAGES.iter().copied().collect();
    assert!(ours.keys().eq(recorded.messages.keys()));
    let mut wrong = Vec::new();
    for (message, fields) in &recorded.messages {
        for field in fields {
            let bytes = recorded.sample(field, DEPTH);
            let back = ours[message](&bytes);
            if back.as_ref() != Ok(&bytes) {
                wrong.push(format!("{message}.{} = {}: {bytes:x?} came back as {back:x?}", field.name, field.number));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_value_is_buildx_s() {
    let recorded = Recorded::read(RECORDED);
    let ours: BTreeMap<_, _> = ENUMERATIONS.iter().copied().collect();
    assert!(ours.keys().eq(recorded.enumerations.keys()));
    for (name, numbers) in &recorded.enumerations {
        for number in -1..100 {
            assert_eq!(ours[name](number), numbers.contains(&number), "{name} {number}");
        }
    }
}

messages! {
    "moby.buildkit.v1.PruneRequest" => control::PruneRequest,
    "moby.buildkit.v1.DiskUsageRequest" => control::DiskUsageRequest,
    "moby.buildkit.v1.DiskUsageResponse" => control::DiskUsageResponse,
    "moby.buildkit.v1.UsageRecord" => control::UsageRecord,
    "moby.buildkit.v1.SolveRequest" => control::SolveRequest,
    "moby.buildkit.v1.CacheOptions" => control::CacheOptions,
    "moby.buildkit.v1.CacheOptionsEntry" => control::CacheOptionsEntry,
    "moby.buildkit.v1.SolveResponse" => control::SolveResponse,
    "moby.buildkit.v1.StatusRequest" => control::StatusRequest,
    "moby.buildkit.v1.StatusResponse" => control::StatusResponse,
    "moby.buildkit.v1.Vertex" => control::Vertex,
    "moby.buildkit.v1.VertexStatus" => control::VertexStatus,
    "moby.buildkit.v1.VertexLog" => control::VertexLog,
    "moby.buildkit.v1.VertexWarning" => control::VertexWarning,
    "moby.buildkit.v1.BytesMessage" => control::BytesMessage,
    "moby.buildkit.v1.ListWorkersRequest" => control::ListWorkersRequest,
    "moby.buildkit.v1.ListWorkersResponse" => control::ListWorkersResponse,
    "moby.buildkit.v1.InfoRequest" => control::InfoRequest,
    "moby.buildkit.v1.InfoResponse" => control::InfoResponse,
    "moby.buildkit.v1.BuildHistoryRequest" => control::BuildHistoryRequest,
    "moby.buildkit.v1.BuildHistoryEvent" => control::BuildHistoryEvent,
    "moby.buildkit.v1.BuildHistoryRecord" => control::BuildHistoryRecord,
    "moby.buildkit.v1.UpdateBuildHistoryRequest" => control::UpdateBuildHistoryRequest,
    "moby.buildkit.v1.UpdateBuildHistoryResponse" => control::UpdateBuildHistoryResponse,
    "moby.buildkit.v1.Descriptor" => control::Descriptor,
    "moby.buildkit.v1.BuildResultInfo" => control::BuildResultInfo,
    "moby.buildkit.v1.Exporter" => control::Exporter,
    "moby.buildkit.v1.types.WorkerRecord" => worker::WorkerRecord,
    "moby.buildkit.v1.types.GCPolicy" => worker::GcPolicy,
    "moby.buildkit.v1.types.BuildkitVersion" => worker::BuildkitVersion,
    "moby.buildkit.v1.types.CDIDevice" => worker::CdiDevice,
    "moby.buildkit.v1.frontend.Result" => gateway::Result,
    "moby.buildkit.v1.frontend.RefMapDeprecated" => gateway::RefMapDeprecated,
    "moby.buildkit.v1.frontend.Ref" => gateway::Ref,
    "moby.buildkit.v1.frontend.RefMap" => gateway::RefMap,
    "moby.buildkit.v1.frontend.Attestations" => gateway::Attestations,
    "moby.buildkit.v1.frontend.Attestation" => gateway::Attestation,
    "moby.buildkit.v1.frontend.InTotoSubject" => gateway::InTotoSubject,
    "moby.buildkit.v1.frontend.ReturnRequest" => gateway::ReturnRequest,
    "moby.buildkit.v1.frontend.ReturnResponse" => gateway::ReturnResponse,
    "moby.buildkit.v1.frontend.InputsRequest" => gateway::InputsRequest,
    "moby.buildkit.v1.frontend.InputsResponse" => gateway::InputsResponse,
    "moby.buildkit.v1.frontend.ResolveImageConfigRequest" => gateway::ResolveImageConfigRequest,
    "moby.buildkit.v1.frontend.ResolveImageConfigResponse" => gateway::ResolveImageConfigResponse,
    "moby.buildkit.v1.frontend.ResolveSourceMetaRequest" => gateway::ResolveSourceMetaRequest,
    "moby.buildkit.v1.frontend.ResolveSourceMetaResponse" => gateway::ResolveSourceMetaResponse,
    "moby.buildkit.v1.frontend.ResolveSourceImageResponse" => gateway::ResolveSourceImageResponse,
    "moby.buildkit.v1.frontend.SolveRequest" => gateway::SolveRequest,
    "moby.buildkit.v1.frontend.CacheOptionsEntry" => gateway::CacheOptionsEntry,
    "moby.buildkit.v1.frontend.SolveResponse" => gateway::SolveResponse,
    "moby.buildkit.v1.frontend.ReadFileRequest" => gateway::ReadFileRequest,
    "moby.buildkit.v1.frontend.FileRange" => gateway::FileRange,
    "moby.buildkit.v1.frontend.ReadFileResponse" => gateway::ReadFileResponse,
    "moby.buildkit.v1.frontend.ReadDirRequest" => gateway::ReadDirRequest,
    "moby.buildkit.v1.frontend.ReadDirResponse" => gateway::ReadDirResponse,
    "moby.buildkit.v1.frontend.StatFileRequest" => gateway::StatFileRequest,
    "moby.buildkit.v1.frontend.StatFileResponse" => gateway::StatFileResponse,
    "moby.buildkit.v1.frontend.EvaluateRequest" => gateway::EvaluateRequest,
    "moby.buildkit.v1.frontend.EvaluateResponse" => gateway::EvaluateResponse,
    "moby.buildkit.v1.frontend.PingRequest" => gateway::PingRequest,
    "moby.buildkit.v1.frontend.PongResponse" => gateway::PongResponse,
    "moby.buildkit.v1.frontend.WarnRequest" => gateway::WarnRequest,
    "moby.buildkit.v1.frontend.WarnResponse" => gateway::WarnResponse,
    "moby.buildkit.v1.frontend.NewContainerRequest" => gateway::NewContainerRequest,
    "moby.buildkit.v1.frontend.NewContainerResponse" => gateway::NewContainerResponse,
    "moby.buildkit.v1.frontend.ReleaseContainerRequest" => gateway::ReleaseContainerRequest,
    "moby.buildkit.v1.frontend.ReleaseContainerResponse" => gateway::ReleaseContainerResponse,
    "moby.buildkit.v1.frontend.ExecMessage" => gateway::ExecMessage,
    "moby.buildkit.v1.frontend.InitMessage" => gateway::InitMessage,
    "moby.buildkit.v1.frontend.ExitMessage" => gateway::ExitMessage,
    "moby.buildkit.v1.frontend.StartedMessage" => gateway::StartedMessage,
    "moby.buildkit.v1.frontend.DoneMessage" => gateway::DoneMessage,
    "moby.buildkit.v1.frontend.FdMessage" => gateway::FdMessage,
    "moby.buildkit.v1.frontend.ResizeMessage" => gateway::ResizeMessage,
    "moby.buildkit.v1.frontend.SignalMessage" => gateway::SignalMessage,
    "moby.filesync.v1.CredentialsRequest" => auth::CredentialsRequest,
    "moby.filesync.v1.CredentialsResponse" => auth::CredentialsResponse,
    "moby.filesync.v1.FetchTokenRequest" => auth::FetchTokenRequest,
    "moby.filesync.v1.FetchTokenResponse" => auth::FetchTokenResponse,
    "moby.filesync.v1.GetTokenAuthorityRequest" => auth::GetTokenAuthorityRequest,
    "moby.filesync.v1.GetTokenAuthorityResponse" => auth::GetTokenAuthorityResponse,
    "moby.filesync.v1.VerifyTokenAuthorityRequest" => auth::VerifyTokenAuthorityRequest,
    "moby.filesync.v1.VerifyTokenAuthorityResponse" => auth::VerifyTokenAuthorityResponse,
    "moby.filesync.v1.BytesMessage" => filesync::BytesMessage,
    "moby.buildkit.secrets.v1.GetSecretRequest" => secrets::GetSecretRequest,
    "moby.buildkit.secrets.v1.GetSecretResponse" => secrets::GetSecretResponse,
    "moby.sshforward.v1.BytesMessage" => sshforward::BytesMessage,
    "moby.sshforward.v1.CheckAgentRequest" => sshforward::CheckAgentRequest,
    "moby.sshforward.v1.CheckAgentResponse" => sshforward::CheckAgentResponse,
    "moby.upload.v1.BytesMessage" => upload::BytesMessage,
    "errdefs.Vertex" => errdefs::Vertex,
    "errdefs.Source" => errdefs::Source,
    "errdefs.Frontend" => errdefs::Frontend,
    "errdefs.FrontendCap" => errdefs::FrontendCap,
    "errdefs.Subrequest" => errdefs::Subrequest,
    "errdefs.Solve" => errdefs::Solve,
    "errdefs.FileAction" => errdefs::FileAction,
    "errdefs.ContentCache" => errdefs::ContentCache,
    "pb.Op" => llb::Op,
    "pb.Platform" => llb::Platform,
    "pb.Input" => llb::Input,
    "pb.ExecOp" => llb::ExecOp,
    "pb.Meta" => llb::Meta,
    "pb.HostIP" => llb::HostIp,
    "pb.Ulimit" => llb::Ulimit,
    "pb.SecretEnv" => llb::SecretEnv,
    "pb.CDIDevice" => llb::CdiDevice,
    "pb.Mount" => llb::Mount,
    "pb.TmpfsOpt" => llb::TmpfsOpt,
    "pb.CacheOpt" => llb::CacheOpt,
    "pb.SecretOpt" => llb::SecretOpt,
    "pb.SSHOpt" => llb::SshOpt,
    "pb.SourceOp" => llb::SourceOp,
    "pb.BuildOp" => llb::BuildOp,
    "pb.BuildInput" => llb::BuildInput,
    "pb.OpMetadata" => llb::OpMetadata,
    "pb.Source" => llb::Source,
    "pb.Locations" => llb::Locations,
    "pb.SourceInfo" => llb::SourceInfo,
    "pb.Location" => llb::Location,
    "pb.Range" => llb::Range,
    "pb.Position" => llb::Position,
    "pb.ExportCache" => llb::ExportCache,
    "pb.ProgressGroup" => llb::ProgressGroup,
    "pb.ProxyEnv" => llb::ProxyEnv,
    "pb.WorkerConstraints" => llb::WorkerConstraints,
    "pb.Definition" => llb::Definition,
    "pb.FileOp" => llb::FileOp,
    "pb.FileAction" => llb::FileAction,
    "pb.FileActionCopy" => llb::FileActionCopy,
    "pb.FileActionMkFile" => llb::FileActionMkFile,
    "pb.FileActionSymlink" => llb::FileActionSymlink,
    "pb.FileActionMkDir" => llb::FileActionMkDir,
    "pb.FileActionRm" => llb::FileActionRm,
    "pb.ChownOpt" => llb::ChownOpt,
    "pb.UserOpt" => llb::UserOpt,
    "pb.NamedUserOpt" => llb::NamedUserOpt,
    "pb.MergeInput" => llb::MergeInput,
    "pb.MergeOp" => llb::MergeOp,
    "pb.LowerDiffInput" => llb::LowerDiffInput,
    "pb.UpperDiffInput" => llb::UpperDiffInput,
    "pb.DiffOp" => llb::DiffOp,
    "moby.buildkit.v1.sourcepolicy.Rule" => policy::Rule,
    "moby.buildkit.v1.sourcepolicy.Update" => policy::Update,
    "moby.buildkit.v1.sourcepolicy.Selector" => policy::Selector,
    "moby.buildkit.v1.sourcepolicy.AttrConstraint" => policy::AttrConstraint,
    "moby.buildkit.v1.sourcepolicy.Policy" => policy::Policy,
    "moby.buildkit.v1.apicaps.APICap" => caps::ApiCap,
    "stack.Stack" => stack::Stack,
    "stack.Frame" => stack::Frame,
    "fsutil.types.Stat" => stat::Stat,
    "fsutil.types.Packet" => packet::Packet,
    "google.rpc.Status" => status::Status,
    "grpc.health.v1.HealthCheckRequest" => health::HealthCheckRequest,
    "grpc.health.v1.HealthCheckResponse" => health::HealthCheckResponse,
    "grpc.health.v1.HealthListRequest" => health::HealthListRequest,
    "grpc.health.v1.HealthListResponse" => health::HealthListResponse,
}

enumerations! {
    "moby.buildkit.v1.BuildHistoryEventType" => control::BuildHistoryEventType,
    "moby.buildkit.v1.frontend.AttestationKind" => gateway::AttestationKind,
    "moby.buildkit.v1.frontend.InTotoSubjectKind" => gateway::InTotoSubjectKind,
    "pb.NetMode" => llb::NetMode,
    "pb.SecurityMode" => llb::SecurityMode,
    "pb.MountType" => llb::MountType,
    "pb.MountContentCache" => llb::MountContentCache,
    "pb.CacheSharingOpt" => llb::CacheSharingOpt,
    "moby.buildkit.v1.sourcepolicy.PolicyAction" => policy::PolicyAction,
    "moby.buildkit.v1.sourcepolicy.AttrMatch" => policy::AttrMatch,
    "moby.buildkit.v1.sourcepolicy.MatchType" => policy::MatchType,
    "fsutil.types.Packet.PacketType" => packet::PacketType,
    "grpc.health.v1.HealthCheckResponse.ServingStatus" => health::HealthCheckResponseServingStatus,
}

#[test]
fn secrets_have_no_text() {
    let secret = secrets::GetSecretResponse { data: b"hunter2".to_vec() };
    let login = auth::CredentialsResponse { username: "u".into(), secret: "hunter2".into() };
    let token = auth::FetchTokenResponse { token: "hunter2".into(), ..auth::FetchTokenResponse::default() };
    for text in [format!("{secret:?}"), format!("{login:?}"), format!("{token:?}")] {
        assert!(!text.contains("hunter2") && !text.contains("104"), "{text}");
    }
}

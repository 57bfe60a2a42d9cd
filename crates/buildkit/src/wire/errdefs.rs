//! Details of errors (`errdefs`).

use std::collections::HashMap;

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Vertex {
    #[prost(string, tag = "1")]
    pub digest: String,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Source {
    #[prost(message, optional, tag = "1")]
    pub info: Option<super::llb::SourceInfo>,
    #[prost(message, repeated, tag = "2")]
    pub ranges: Vec<super::llb::Range>,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Frontend {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub source: String,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct FrontendCap {
    #[prost(string, tag = "1")]
    pub name: String,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Subrequest {
    #[prost(string, tag = "1")]
    pub name: String,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Solve {
    #[prost(string, repeated, tag = "1")]
    pub input_ids: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub mount_ids: Vec<String>,
    #[prost(message, optional, tag = "3")]
    pub op: Option<super::llb::Op>,
    #[prost(oneof = "SolveSubject", tags = "4, 5")]
    pub subject: Option<SolveSubject>,
    #[prost(map = "string, string", tag = "6")]
    pub description: HashMap<String, String>,
}

#[derive(Clone, PartialEq, ::prost::Oneof)]
pub enum SolveSubject {
    #[prost(message, tag = "4")]
    File(FileAction),
    #[prost(message, tag = "5")]
    Cache(ContentCache),
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct FileAction {
    #[prost(int64, tag = "1")]
    pub index: i64,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ContentCache {
    #[prost(int64, tag = "1")]
    pub index: i64,
}

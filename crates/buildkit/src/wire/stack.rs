//! Where an error was made (`stack`).

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Stack {
    #[prost(message, repeated, tag = "1")]
    pub frames: Vec<Frame>,
    #[prost(string, repeated, tag = "2")]
    pub cmdline: Vec<String>,
    #[prost(int32, tag = "3")]
    pub pid: i32,
    #[prost(string, tag = "4")]
    pub version: String,
    #[prost(string, tag = "5")]
    pub revision: String,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Frame {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub file: String,
    #[prost(int32, tag = "3")]
    pub line: i32,
}

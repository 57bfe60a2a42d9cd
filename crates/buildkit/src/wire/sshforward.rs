//! Agents of SSH, over the session (`moby.sshforward.v1`).

#[derive(Clone, PartialEq, ::prost::Message)]
#[prost(skip_debug)]
pub struct BytesMessage {
    #[prost(bytes = "vec", tag = "1")]
    pub data: Vec<u8>,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct CheckAgentRequest {
    #[prost(string, tag = "1")]
    pub id: String,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub struct CheckAgentResponse {}

hidden!(BytesMessage);

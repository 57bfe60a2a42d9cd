//! Files between client and daemon, over the session (`moby.filesync.v1`).

#[derive(Clone, PartialEq, ::prost::Message)]
#[prost(skip_debug)]
pub struct BytesMessage {
    #[prost(bytes = "vec", tag = "1")]
    pub data: Vec<u8>,
}

hidden!(BytesMessage);

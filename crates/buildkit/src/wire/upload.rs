//! What the client reads from its standard input, over the session (`moby.upload.v1`).

#[derive(Clone, PartialEq, ::prost::Message)]
#[prost(skip_debug)]
pub struct BytesMessage {
    #[prost(bytes = "vec", tag = "1")]
    pub data: Vec<u8>,
}

hidden!(BytesMessage);

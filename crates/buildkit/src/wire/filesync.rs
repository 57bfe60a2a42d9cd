//! Files between client and daemon, over the session (`moby.filesync.v1`).

#[derive(Clone, PartialEq, ::prost::Message)]
#[prost(skip_debug)]
pub struct BytesMessage {
    #[prost(bytes = "vec", tag = "1")]
    pub data: Vec<u8>,
}

hidden!(BytesMessage);

/// A message of `FileSend.DiffCopy`, which has two kinds: packets of a directory, and bytes of a file. They differ in the
/// type of their first field.
#[derive(Clone, Default, PartialEq)]
pub struct Sent {
    /// What it says of a directory.
    pub packet: super::packet::Packet,
    /// What it has of a file.
    pub bytes: BytesMessage,
}

hidden!(Sent);

impl ::prost::Message for Sent {
    fn encode_raw(&self, buf: &mut impl ::prost::bytes::BufMut) {
        // Only directories are answered.
        self.packet.encode_raw(buf);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: ::prost::encoding::WireType,
        buf: &mut impl ::prost::bytes::Buf,
        ctx: ::prost::encoding::DecodeContext,
    ) -> Result<(), ::prost::DecodeError> {
        if tag == 1 && wire_type == ::prost::encoding::WireType::LengthDelimited {
            self.bytes.merge_field(tag, wire_type, buf, ctx)
        } else {
            self.packet.merge_field(tag, wire_type, buf, ctx)
        }
    }

    fn encoded_len(&self) -> usize {
        self.packet.encoded_len()
    }

    fn clear(&mut self) {
        self.packet.clear();
        self.bytes.clear();
    }
}

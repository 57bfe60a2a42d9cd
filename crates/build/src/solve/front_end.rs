//! Front ends in containers: processes that speak BuildKit's gateway protocol on their standard input and output, confined as
//! steps are.

use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use types::Kind;

use super::Build;
use super::exec::blocking;
use super::source::layers;
use crate::error::{Error, Result};
use crate::host::{BaseImage, Ended, Hold, Network, Run};
use crate::tree::Tree;

/// Bytes that go to the process at a time.
const PIECE: usize = 32 << 10;

/// What is needed to talk to a front end.
pub(crate) struct Talk {
    /// The other end of its standard input and output.
    pub(crate) stream: DuplexStream,
    /// Where what it prints beside that goes.
    pub(crate) vertex: String,
    /// Ends it.
    pub(crate) cancel: CancellationToken,
}

impl Build {
    /// Runs the program of an image to its end, with these variables beside the image's own.
    pub(crate) async fn front_end(
        self: &Arc<Self>,
        image: BaseImage,
        variables: Vec<String>,
        talk: Talk,
    ) -> Result<Ended> {
        let config = image.image.config.clone();
        let args: Vec<String> = [&config.entrypoint, &config.cmd].into_iter().flatten().flatten().cloned().collect();
        if args.is_empty() {
            return Err(Error::new(Kind::Invalid, "the front end's image names no program to run"));
        }
        let tree = Tree::stored(layers(&image)?, Some(Arc::clone(&image.lease)));
        let (work, shared, base) = (Arc::clone(&self.work), Arc::clone(&self.shared), tree.clone());
        let (change, rootfs) = blocking(move || {
            let store = shared.host.store();
            let change = work.change(&base, store)?;
            let rootfs = base.mount(store, &change, shared.host.places())?;
            Ok((change, rootfs))
        })
        .await?;
        let (output, mut printed) = mpsc::channel(64);
        let (feeding, input) = mpsc::channel(16);
        let mut env = config.env.clone().unwrap_or_default();
        env.extend(variables);
        let run = Run {
            rootfs,
            mounts: Vec::new(),
            args,
            env,
            cwd: if config.working_dir.is_empty() { "/".to_owned() } else { config.working_dir },
            user: config.user,
            hostname: String::new(),
            extra_hosts: Vec::new(),
            network: Network::Default,
            insecure: false,
            ulimits: Vec::new(),
            cgroup_parent: String::new(),
            input: Some(input),
            output,
            cancel: talk.cancel.clone(),
            hold: Hold(Box::new((tree, change))),
        };
        let _end = talk.cancel.drop_guard();
        let (mut reading, mut writing) = tokio::io::split(talk.stream);
        let feed = async move {
            loop {
                let mut piece = vec![0; PIECE];
                let count = reading.read(&mut piece).await.unwrap_or(0);
                piece.truncate(count);
                if count == 0 || feeding.send(Bytes::from(piece)).await.is_err() {
                    return;
                }
            }
        };
        let hear = async {
            while let Some(output) = printed.recv().await {
                if output.stream == 1 {
                    // Whoever listened may have gone; the process will find out.
                    let _ = writing.write_all(&output.data).await;
                } else {
                    self.progress.log(&talk.vertex, output.stream, &output.data);
                }
            }
            let _ = writing.shutdown().await;
        };
        let running = async { tokio::join!(self.shared.host.run(run), hear).0 };
        tokio::pin!(running);
        tokio::select! {
            ended = &mut running => ended,
            () = feed => running.await,
        }
    }
}

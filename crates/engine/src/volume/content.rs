//! What is in a volume: taken out as an archive, put in, copied to another volume, kept as a snapshot and
//! taken back.
//!
//! New content is made beside the old and takes its place in one step once it is whole and on disk, so a
//! broken archive, a full disk or a power cut leaves what was there. A volume that a running container uses
//! can be read — what is read then is consistent as after a crash — but not be replaced. Called by the facade.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use docker_types::volume::Volume;
use layer::Decompress;
use layer::tar::{Limits, Reader};
use rustix::fs::{CWD, RenameFlags};
use state::{Durability, Op};
use store::tree::ApplyOptions;
use sys::path::Root;

use super::{ANONYMOUS, Record, SNAPSHOT_OF, STAGED, Volumes};
use crate::ByteStream;
use crate::archive::bridge;
use crate::clock;
use crate::container::random_id;
use crate::engine::Inner;
use crate::error::{Error, Result, fail};

/// How a volume is copied to a new one.
#[derive(Clone, Debug, Default)]
pub struct Copied {
    /// Name of the new volume; a snapshot's is made up when it is empty.
    pub name: String,
    /// Labels beside those of the original.
    pub labels: BTreeMap<String, String>,
}

/// Whether a copy is one of its own or a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Snapshot {
    No,
    Yes,
}

impl Volumes {
    /// Everything in a volume as an archive.
    ///
    /// # Errors
    /// Not found; Docker's text for one that cannot be mounted; what fails later ends the stream.
    pub(crate) async fn export(&self, inner: &Arc<Inner>, name: &str) -> Result<ByteStream> {
        let held = self.hold(inner, name).await?;
        let data = self.data(name);
        let root = self.open_content(name, data).await?;
        Ok(bridge::stream(move |out| {
            let _held = held;
            Ok(store::tree::export_whole(&root, out)?)
        }))
    }

    /// Replace what is in a volume by an archive, compressed or not; makes the volume when there is none.
    ///
    /// # Errors
    /// Conflict while a container runs on it; Invalid for an archive that cannot be; Exhausted when the disk is
    /// full. The volume is then what it was before.
    pub(crate) async fn import(&self, inner: &Arc<Inner>, name: &str, body: ByteStream) -> Result<Volume> {
        let unpack = move |data: &Path| {
            bridge::read(body, |reader| {
                let limits = Limits::default();
                let reader = Decompress::new(reader, limits.total_bytes.saturating_mul(2))
                    .map_err(|e| fail!(Invalid, "cannot read the archive: {e}"))?;
                let mut archive = Reader::new(reader, limits);
                let root = open(data)?;
                let options = ApplyOptions { root_attributes: true, ..ApplyOptions::default() };
                let applied = store::tree::apply(&root, &mut archive, &options)?;
                if applied.entries == 0 {
                    return Err(fail!(Invalid, "the archive is empty: not even the volume's own directory is in it"));
                }
                archive.drain().map_err(store::Error::from)?;
                Ok(())
            })
        };
        let changing = self.changing.lock().await;
        if self.get(name).is_some() {
            drop(changing);
            return self.replace(inner, name, "import", unpack).await;
        }
        let making = self.reserve(name)?;
        drop(changing);
        let record = Record { created_ns: clock::now_ns(), ..Record::default() };
        self.make(inner, making, record, settled(unpack)).await
    }

    /// A new volume with what is in another: data is shared with it where the file system can.
    ///
    /// # Errors
    /// Not found, Conflict when the name is taken, Exhausted when the disk is full; no new volume is there then.
    pub(crate) async fn copy(
        &self,
        inner: &Arc<Inner>,
        source: &str,
        wanted: Copied,
        snapshot: Snapshot,
    ) -> Result<Volume> {
        let changing = self.changing.lock().await;
        let original = self.find(source)?;
        let name = match (wanted.name.as_str(), snapshot) {
            ("", Snapshot::No) => return Err(fail!(Invalid, "the new volume needs a name")),
            ("", Snapshot::Yes) => self.snapshot_name(source),
            (name, _) => name.to_owned(),
        };
        let making = self.reserve(&name)?;
        drop(changing);
        let held = self.hold(inner, source).await?;
        let from = self.open_content(source, self.data(source)).await?;
        let mut labels = original.labels.clone().unwrap_or_default();
        labels.remove(ANONYMOUS);
        labels.remove(SNAPSHOT_OF);
        labels.extend(wanted.labels);
        if snapshot == Snapshot::Yes {
            labels.insert(SNAPSHOT_OF.into(), source.to_owned());
        }
        let record = Record {
            created_ns: clock::now_ns(),
            labels: Some(labels).filter(|labels| !labels.is_empty()),
            // What is mounted for the original is not the copy's; a size is.
            options: original.options.clone().filter(|_| !original.is_mounted()),
            ..Record::default()
        };
        self.make(
            inner,
            making,
            record,
            settled(move |data: &Path| {
                let _held = held;
                store::tree::duplicate(&from, &open(data)?)?;
                Ok(())
            }),
        )
        .await
    }

    /// Put back what a snapshot of the volume kept.
    ///
    /// # Errors
    /// Not found, Invalid for what is no snapshot of it, and as [`Volumes::import`].
    pub(crate) async fn rollback(&self, inner: &Arc<Inner>, name: &str, snapshot: &str) -> Result<Volume> {
        self.find(name)?;
        if self.find(snapshot)?.label(SNAPSHOT_OF) != Some(name) {
            return Err(fail!(Invalid, "rollback {name}: volume {snapshot} is no snapshot of it")
                .with_hint(format!("dhow volume ls --filter label={SNAPSHOT_OF}={name} lists them")));
        }
        let held = self.hold(inner, snapshot).await?;
        let from = self.open_content(snapshot, self.data(snapshot)).await?;
        self.replace(inner, name, "rollback", move |data| {
            let _held = held;
            store::tree::duplicate(&from, &open(data)?)?;
            Ok(())
        })
        .await
    }

    /// Make new content beside that of a volume, and exchange them once it is whole.
    async fn replace(
        &self,
        inner: &Arc<Inner>,
        name: &str,
        doing: &'static str,
        fill: impl FnOnce(&Path) -> Result<()> + Send + 'static,
    ) -> Result<Volume> {
        let mut record = self.find(name)?;
        if record.is_mounted() {
            return Err(fail!(
                Invalid,
                "{doing} {name}: what is in the volume is mounted from elsewhere and cannot be replaced as a whole"
            )
            .with_hint("start a container on the volume and copy into it"));
        }
        self.unused(name, doing).await?;
        // Not removed meanwhile; and nobody is kept from using what is there until the exchange.
        let claim = random_id();
        self.claim(name, &claim).await?;
        let result = self.replace_claimed(inner, name, doing, &mut record, &claim, fill).await;
        self.release(inner, name, &claim).await;
        let trash = result?;
        self.empty(inner, Some(trash)).await?;
        Ok(self.shown(name, &self.find(name)?))
    }

    async fn replace_claimed(
        &self,
        inner: &Arc<Inner>,
        name: &str,
        doing: &'static str,
        record: &mut Record,
        claim: &str,
        fill: impl FnOnce(&Path) -> Result<()> + Send + 'static,
    ) -> Result<PathBuf> {
        let staged = self.directory(name).join(format!("{STAGED}{}", random_id()));
        let (old, size) = (record.project, record.size());
        let (shared, place) = (Arc::clone(inner), staged.clone());
        let fill = settled(fill);
        // A project of its own: else old and new would have to fit into the size together.
        let project = inner
            .blocking("fill a volume", move || {
                let made = directory(&place).and_then(|()| shared.volumes.fill_limited(&place, size, fill));
                if made.is_err() {
                    super::sweep(&place);
                }
                made
            })
            .await
            .map_err(|e| e.context(format!("{doing} {name}")))?;
        record.next_project = project;
        if project != old
            && let Err(error) = self.write_down(inner, name, record).await
        {
            self.lift(project);
            self.empty(inner, Some(staged)).await?;
            return Err(error);
        }
        let active = self.active(name);
        let active = active.lock().await;
        let others: Vec<&str> = active.users.iter().filter(|user| *user != claim).map(String::as_str).collect();
        let (data, place) = (self.data(name), staged.clone());
        let busy = !others.is_empty();
        let exchanged = inner
            .blocking("exchange a volume's content", move || {
                if busy {
                    super::sweep(&place);
                    return Ok(false);
                }
                if let Err(error) = exchange(&data, &place) {
                    super::sweep(&place);
                    return Err(error);
                }
                Ok(true)
            })
            .await;
        if !matches!(exchanged, Ok(true)) {
            if project != old {
                // Nobody is to find the number in our record who may have it next.
                record.next_project = 0;
                self.write_down(inner, name, record).await?;
                self.lift(project);
            }
            return Err(exchanged.err().unwrap_or_else(|| in_use(name, doing, &others)));
        }
        if project != old {
            (record.project, record.next_project) = (project, 0);
            self.write_down(inner, name, record).await?;
            self.lift(old);
        }
        Ok(staged)
    }

    /// Keep a changed record, on disk first.
    async fn write_down(&self, inner: &Arc<Inner>, name: &str, record: &Record) -> Result<()> {
        let doc = serde_json::to_string(record).map_err(|e| Error::io("encode a volume's record", e))?;
        inner.commit(vec![Op::PutVolume { name: name.to_owned(), doc }], Durability::Synced).await?;
        self.lock().insert(name.to_owned(), record.clone());
        Ok(())
    }

    /// # Errors
    /// Conflict while something uses the volume.
    async fn unused(&self, name: &str, doing: &str) -> Result<()> {
        let active = self.active(name);
        let active = active.lock().await;
        let users: Vec<&str> = active.users.iter().map(String::as_str).collect();
        if users.is_empty() { Ok(()) } else { Err(in_use(name, doing, &users)) }
    }

    /// The volume's tree. What is mounted there may not answer.
    async fn open_content(&self, name: &str, data: PathBuf) -> Result<Root> {
        let doing = format!("open volume {name}");
        self.patience.run(&format!("volume {name}"), &doing, super::patience::LIMIT, move || open(&data)).await
    }

    /// `NAME-20261127-180102`, with a number behind it when that is taken.
    fn snapshot_name(&self, source: &str) -> String {
        let now = clock::rfc3339(clock::now_ns());
        let digits: String = now.bytes().take(19).filter(u8::is_ascii_digit).map(char::from).collect();
        let (date, time) = digits.split_at(8.min(digits.len()));
        let plain = format!("{source}-{date}-{time}");
        let taken = |name: &str| self.get(name).is_some();
        let numbered = (2..1000).map(|number| format!("{plain}-{number}"));
        std::iter::once(plain.clone()).chain(numbered).find(|name| !taken(name)).unwrap_or(plain)
    }
}

fn in_use(name: &str, doing: &str, users: &[&str]) -> Error {
    fail!(Conflict, "{doing} {name}: volume is in use - [{}]", users.join(", "))
        .with_hint("stop what runs on the volume first")
}

fn open(data: &Path) -> Result<Root> {
    Root::open(data).map_err(|e| Error::io(format!("cannot open {}", data.display()), e))
}

fn directory(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().mode(0o755).create(path);
    made.map_err(|e| Error::io(format!("cannot make the directory {}", path.display()), e))
}

/// `fill`, and then everything on disk.
fn settled(
    fill: impl FnOnce(&Path) -> Result<()> + Send + 'static,
) -> impl FnOnce(&Path) -> Result<()> + Send + 'static {
    move |data| {
        fill(data)?;
        let failed = |e: std::io::Error| Error::io(format!("cannot write {} to disk", data.display()), e);
        let directory = std::fs::File::open(data).map_err(failed)?;
        rustix::fs::syncfs(&directory).map_err(|e| failed(e.into()))
    }
}

/// Put `staged` in the place of `data`, and the other way round, on disk.
fn exchange(data: &Path, staged: &Path) -> Result<()> {
    let failed = |e: rustix::io::Errno| Error::io(format!("cannot exchange {}", data.display()), e);
    rustix::fs::renameat_with(CWD, staged, CWD, data, RenameFlags::EXCHANGE).map_err(failed)?;
    let parent = data.parent().unwrap_or(data);
    std::fs::File::open(parent)
        .and_then(|parent| parent.sync_all())
        .map_err(|e| Error::io(format!("cannot write {} to disk", parent.display()), e))
}

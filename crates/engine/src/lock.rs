//! One engine per data root: an exclusive `flock` on a file that also says who holds it.
//! The kernel drops the lock with the process, so a killed engine never blocks its successor.
//! Called by [`crate::Engine::open`].

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::error::{Error, Result, fail};

/// Held for the life of the engine.
#[derive(Debug)]
pub(crate) struct DataRootLock {
    _file: File,
}

impl DataRootLock {
    pub(crate) fn acquire(data_root: &Path) -> Result<Self> {
        let path = data_root.join("lock");
        let doing = format!("cannot open the lock file {}", path.display());
        let mut file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| Error::io(&doing, e))?;
        if let Err(e) = rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            if e != rustix::io::Errno::WOULDBLOCK {
                return Err(Error::io(format!("cannot lock {}", path.display()), e));
            }
            let mut holder = String::new();
            // Who holds it is only for the message.
            let _ = (&mut file).take(32).read_to_string(&mut holder);
            return Err(fail!(
                Conflict,
                "another dhowd (pid {}) uses the data root {}; stop it or choose another --data-root",
                holder.trim(),
                data_root.display()
            ));
        }
        let pid = std::process::id();
        file.set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| writeln!(file, "{pid}"))
            .map_err(|e| Error::io(doing, e))?;
        Ok(Self { _file: file })
    }
}

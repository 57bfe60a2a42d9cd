//! `system dial-stdio`: our standard streams joined to the engine's socket; `ssh://` contexts run this on the far side.

use std::io::{Read, Write};

use crate::{
    flags::{Arity, Command},
    term::output::copy_raw,
};

pub(super) static DIAL: Command = Command {
    paths: &["system dial-stdio"],
    synopsis: "",
    about: "Join standard input and output to the engine's socket",
    flags: &[],
    arity: Arity::None,
    interspersed: true,
    run: |_, session| {
        let mut connection = session.client()?.dial()?;
        let mut writer = connection.writer()?;
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            let mut stdin = std::io::stdin().lock();
            while let Ok(count @ 1..) = stdin.read(&mut buffer) {
                if writer.write_all(&buffer[..count]).is_err() {
                    return;
                }
            }
            writer.close_write();
        });
        copy_raw(&mut connection)?;
        Ok(0)
    },
};

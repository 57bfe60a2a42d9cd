//! `exec` in a container: create, start, inspect.

use crate::go::{StrSlice, go_struct};

go_struct! {
    /// Body of `POST /containers/{id}/exec`.
    pub struct ExecCreateBody {
        "User" user: String,
        "Privileged" privileged: bool,
        "Tty" tty: bool,
        /// Rows and columns.
        "ConsoleSize" / "crate::go::omit" console_size: Option<Vec<u64>>,
        "AttachStdin" attach_stdin: bool,
        "AttachStderr" attach_stderr: bool,
        "AttachStdout" attach_stdout: bool,
        "DetachKeys" detach_keys: String,
        "Env" env: Option<Vec<String>>,
        "WorkingDir" working_dir: String,
        "Cmd" cmd: Option<StrSlice>,
    }
}

go_struct! {
    /// Body of `POST /exec/{id}/start`.
    pub struct ExecStartBody {
        "Detach" detach: bool,
        "Tty" tty: bool,
        /// Rows and columns.
        "ConsoleSize" / "crate::go::omit" console_size: Option<Vec<u64>>,
    }
}

go_struct! {
    /// Answer of `GET /exec/{id}/json`.
    pub struct ExecInspect {
        "ID" id: String,
        "Running" running: bool,
        /// Absent value while running.
        "ExitCode" exit_code: Option<i64>,
        "ProcessConfig" process_config: ExecProcessConfig,
        "OpenStdin" open_stdin: bool,
        "OpenStderr" open_stderr: bool,
        "OpenStdout" open_stdout: bool,
        "CanRemove" can_remove: bool,
        "ContainerID" container_id: String,
        "DetachKeys" detach_keys: String,
        "Pid" pid: i64,
    }
}

go_struct! {
    /// What an exec runs.
    pub struct ExecProcessConfig {
        "tty" tty: bool,
        "entrypoint" entrypoint: String,
        "arguments" arguments: Vec<String>,
        "privileged" / "crate::go::omit" privileged: Option<bool>,
        "user" / "crate::go::omit" user: String,
    }
}

//! Events of one daemon while something is done, and of these what belongs to one project.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use e2e::{Client, Project};
use serde_json::Value;

use crate::eventually;

pub(super) struct Recorder<'a> {
    project: &'a Project,
    child: Child,
    file: PathBuf,
}

impl<'a> Recorder<'a> {
    pub(super) fn start(project: &'a Project) -> Self {
        let client = &project.client;
        let file = client.config.join("events");
        let out = File::create(&file).expect("a file for events");
        // Since now, so that nothing is missed until the client is there.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
        let since = format!("{}.{:09}", now.as_secs(), now.subsec_nanos());
        let mut command = client.command(&["events", "--since", &since, "--format", "json"]);
        let child = command.stdout(out).stderr(Stdio::null()).spawn().expect("the docker client starts");
        Self { project, child, file }
    }

    /// The project's events until now.
    pub(super) fn finish(mut self) -> Vec<Value> {
        // An event of our own is the last one.
        let mark = format!("{}-mark", self.project.name);
        mark_with(&self.project.client, &mark);
        let read = || fs::read_to_string(&self.file).expect("the file of events");
        eventually(30, "the last event", || read().contains(&mark));
        let _ = self.child.kill();
        let _ = self.child.wait();
        let text = read();
        let events = text.lines().map(|line| serde_json::from_str(line).expect("an event is JSON"));
        let events: Vec<Value> = events.take_while(|event: &Value| event["Actor"]["ID"] != *mark).collect();
        events.into_iter().filter(|event| self.is_ours(event)).collect()
    }

    fn is_ours(&self, event: &Value) -> bool {
        let (name, attributes) = (&self.project.name, &event["Actor"]["Attributes"]);
        let begins = |value: &Value| value.as_str().is_some_and(|text| text.starts_with(&format!("{name}_")));
        attributes["com.docker.compose.project"] == **name
            || begins(&attributes["name"])
            || begins(&event["Actor"]["ID"])
    }
}

fn mark_with(client: &Client, name: &str) {
    client.run(&["volume", "create", name]);
    client.run(&["volume", "rm", name]);
}

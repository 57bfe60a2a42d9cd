//! The table of endpoints: method and path segments to the route that answers.
//!
//! Names of images may contain slashes and so span segments; every other name is one segment, but for that of a legacy
//! link, which is its container's and its own.
//! What no row matches is Docker's 404, whatever the method.

use crate::call::{Answer, Call};
use crate::routes::{build, build_classic, commit, containers, exec, images, networks, stubs, system, volumes};
use crate::status::ApiError;

/// Answers an admitted request.
pub(crate) async fn route(call: Call, segments: &[&str]) -> Answer {
    let method = call.method.clone();
    match (method.as_str(), segments) {
        // System
        ("GET" | "HEAD", ["_ping"]) => Ok(system::ping()),
        ("GET", ["version"]) => system::version(&call),
        ("GET", ["info"]) => system::info(call).await,
        ("GET", ["events"]) => system::events(&call),
        ("GET", ["system", "df"]) => system::disk_usage(call).await,
        ("POST", ["auth"]) => system::auth(call).await,

        // Containers
        ("GET", ["containers", "json"]) => containers::list(call).await,
        ("POST", ["containers", "create"]) => containers::create(call).await,
        ("POST", ["containers", "prune"]) => containers::prune(call).await,
        ("GET", ["containers", id, "json"]) => containers::inspect(call, id).await,
        ("GET", ["containers", id, "top"]) => containers::top(call, id).await,
        ("GET", ["containers", id, "logs"]) => containers::logs(call, id).await,
        ("GET", ["containers", id, "changes"]) => containers::changes(call, id).await,
        ("GET", ["containers", id, "export"]) => containers::export(call, id).await,
        ("GET", ["containers", id, "stats"]) => containers::stats(call, id).await,
        ("POST", ["containers", id, "start"]) => containers::start(call, id).await,
        ("POST", ["containers", id, "stop"]) => containers::stop(call, id).await,
        ("POST", ["containers", id, "restart"]) => containers::restart(call, id).await,
        ("POST", ["containers", id, "kill"]) => containers::kill(call, id).await,
        ("POST", ["containers", id, "pause"]) => containers::pause(call, id).await,
        ("POST", ["containers", id, "unpause"]) => containers::unpause(call, id).await,
        ("POST", ["containers", id, "rename"]) => containers::rename(call, id).await,
        ("POST", ["containers", id, "resize"]) => containers::resize(call, id).await,
        ("POST", ["containers", id, "update"]) => containers::update(call, id).await,
        ("POST", ["containers", id, "wait"]) => containers::wait(call, id).await,
        ("POST", ["containers", id, "attach"]) => containers::attach(call, id).await,
        ("GET", ["containers", _, "attach", "ws"]) => stubs::attach_websocket(),
        ("HEAD", ["containers", id, "archive"]) => containers::archive_stat(call, id).await,
        ("GET", ["containers", id, "archive"]) => containers::archive_get(call, id).await,
        ("PUT", ["containers", id, "archive"]) => containers::archive_put(call, id).await,
        ("POST", ["containers", id, "exec"]) => exec::create(call, id).await,
        ("GET" | "POST", ["containers", _, "checkpoints"]) | ("DELETE", ["containers", _, "checkpoints", _]) => {
            stubs::checkpoints()
        }
        ("DELETE", ["containers", id]) => containers::remove(call, id).await,
        ("DELETE", ["containers", id, alias]) => containers::unlink(call, id, alias).await,
        ("POST", ["commit"]) => commit::commit(call).await,

        // Exec
        ("POST", ["exec", id, "start"]) => exec::start(call, id).await,
        ("POST", ["exec", id, "resize"]) => exec::resize(call, id).await,
        ("GET", ["exec", id, "json"]) => exec::inspect(call, id).await,

        // Images
        ("POST", ["system", "fsck"]) => images::fsck(call).await,
        ("GET", ["images", "json"]) => images::list(call).await,
        ("POST", ["images", "create"]) => images::create(call).await,
        ("POST", ["images", "load"]) => images::load(call).await,
        ("POST", ["images", "prune"]) => images::prune(call).await,
        ("GET", ["images", "get"]) => images::save(call, None).await,
        ("GET", ["images", "search"]) => stubs::search(),
        ("GET", ["images", name @ .., "get"]) if !name.is_empty() => images::save(call, Some(name.join("/"))).await,
        ("GET", ["images", name @ .., "json"]) if !name.is_empty() => images::inspect(call, &name.join("/")).await,
        ("GET", ["images", name @ .., "history"]) if !name.is_empty() => images::history(call, &name.join("/")).await,
        ("GET", ["images", name @ .., "log"]) if !name.is_empty() => images::log(call, &name.join("/")).await,
        ("GET", ["images", name @ .., "diff"]) if !name.is_empty() => images::diff(call, &name.join("/")).await,
        ("GET", ["images", name @ .., "referrers"]) if !name.is_empty() => {
            images::referrers(call, &name.join("/")).await
        }
        ("POST", ["images", name @ .., "rollback"]) if !name.is_empty() => {
            images::rollback(call, &name.join("/")).await
        }
        ("POST", ["images", name @ .., "pin"]) if !name.is_empty() => images::pin(call, &name.join("/"), true).await,
        ("POST", ["images", name @ .., "unpin"]) if !name.is_empty() => images::pin(call, &name.join("/"), false).await,
        ("POST", ["images", name @ .., "verify"]) if !name.is_empty() => images::verify(call, &name.join("/")).await,
        ("GET", ["images", _, .., "attestations"]) => stubs::attestations(),
        ("POST", ["images", name @ .., "tag"]) if !name.is_empty() => images::tag(call, &name.join("/")).await,
        ("POST", ["images", name @ .., "push"]) if !name.is_empty() => images::push(call, &name.join("/")).await,
        ("DELETE", ["images", name @ ..]) if !name.is_empty() => images::remove(call, &name.join("/")).await,
        ("GET", ["distribution", name @ .., "json"]) if !name.is_empty() => {
            images::distribution(call, &name.join("/")).await
        }
        ("GET", ["distribution", name @ .., "manifest"]) if !name.is_empty() => {
            images::manifest(call, &name.join("/")).await
        }
        ("PUT", ["distribution", name @ .., "manifest"]) if !name.is_empty() => {
            images::put_manifest(call, &name.join("/")).await
        }

        // Build
        ("POST", ["grpc"]) => build::grpc(call).await,
        ("POST", ["session"]) => build::session(call).await,
        ("POST", ["build"]) => build_classic::build(call).await,
        ("POST", ["build", "cancel"]) => build_classic::cancel(&call),
        ("POST", ["build", "prune"]) => build::prune(call).await,

        // Networks
        ("GET", ["networks"]) => networks::list(call).await,
        ("POST", ["networks", "create"]) => networks::create(call).await,
        ("POST", ["networks", "prune"]) => networks::prune(call).await,
        ("GET", ["networks", id]) => networks::inspect(call, id).await,
        ("POST", ["networks", id, "connect"]) => networks::connect(call, id).await,
        ("POST", ["networks", id, "disconnect"]) => networks::disconnect(call, id).await,
        ("DELETE", ["networks", id]) => networks::remove(call, id).await,

        // Volumes
        ("GET", ["volumes"]) => volumes::list(call).await,
        ("POST", ["volumes", "create"]) => volumes::create(call).await,
        ("POST", ["volumes", "prune"]) => volumes::prune(call).await,
        ("GET", ["volumes", name]) => volumes::inspect(call, name).await,
        ("GET", ["volumes", name, "export"]) => volumes::export(call, name).await,
        ("POST", ["volumes", name, "import"]) => volumes::import(call, name).await,
        ("POST", ["volumes", name, "clone"]) => volumes::clone(call, name).await,
        ("POST", ["volumes", name, "snapshot"]) => volumes::snapshot(call, name).await,
        ("POST", ["volumes", name, "rollback"]) => volumes::rollback(call, name).await,
        ("PUT", ["volumes", _]) => stubs::swarm(),
        ("DELETE", ["volumes", name]) => volumes::remove(call, name).await,

        // What a single node without plugins answers
        ("GET", ["plugins"]) => stubs::no_plugins(),
        (_, ["plugins", name @ .., "json"]) if !name.is_empty() => stubs::no_such_plugin(&name.join("/")),
        (_, ["plugins", ..]) => stubs::plugins(),
        ("POST", ["swarm", "init" | "join"]) => stubs::swarm_start(),
        (_, ["swarm" | "nodes" | "services" | "tasks" | "secrets" | "configs", ..]) => stubs::swarm(),

        _ => Err(ApiError::page_not_found()),
    }
}

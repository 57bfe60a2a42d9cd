//! Operations on files: copies, directories, files, links, removals, in the order of the operation. Actions that change the
//! same tree one after the other make one layer.

use std::sync::Arc;

use buildkit::wire::llb::{
    ChownOpt, FileAction, FileActionAction, FileActionCopy, FileOp, NamedUserOpt, UserOpt, UserOptUser,
};
use store::Store;
use sys::path::Root;
use types::Kind;

use super::exec::blocking;
use super::{Build, Input, input};
use crate::error::{Error, Result};
use crate::file::{self, Copy, Mkdir, Mkfile, ModeChange, Rm, Selection, Symlink};
use crate::tree::{Change, Tree, Work};

/// Most trees that one operation changes at a time: each is a mount.
const MAX_CHANGED: usize = 100;

/// What a copy takes.
pub(super) fn selection(copy: &FileActionCopy) -> Selection {
    Selection {
        src: copy.src.clone(),
        allow_wildcard: copy.allow_wildcard,
        allow_empty_wildcard: copy.allow_empty_wildcard,
        follow_symlink: copy.follow_symlink,
        dir_copy_contents: copy.dir_copy_contents,
        include_patterns: copy.include_patterns.clone(),
        exclude_patterns: copy.exclude_patterns.clone(),
    }
}

impl Build {
    /// Carries out all actions; gives the outputs.
    pub(super) async fn files(&self, vertex: &str, op: &FileOp, inputs: &[Input]) -> Result<Vec<Option<Tree>>> {
        let trees = (0..inputs.len()).map(|number| input(inputs, i64::try_from(number).unwrap_or(-1)).cloned());
        let trees = trees.collect::<Result<Vec<_>>>()?;
        let (op, work, shared) = (op.clone(), Arc::clone(&self.work), Arc::clone(&self.shared));
        let (progress, vertex) = (Arc::clone(&self.progress), vertex.to_owned());
        blocking(move || {
            let store = shared.host.store();
            let trees = trees.into_iter().map(State::Given).collect();
            let warn = |error: file::FileError| {
                progress.log(&vertex, 2, format!("warning: {error}: root is taken\n").as_bytes());
            };
            let mut doing = Doing { store, work: &work, trees, warn: &warn };
            let mut outputs = Vec::new();
            for action in &op.actions {
                let made = doing.act(action)?;
                if let Ok(output) = usize::try_from(action.output) {
                    if outputs.len() <= output {
                        outputs.resize(output + 1, None);
                    }
                    outputs[output] = Some(made);
                }
            }
            let last = |number: &Option<usize>| number.map(|number| doing.trees[number].tree());
            Ok(outputs.iter().map(last).collect())
        })
        .await
    }
}

/// A tree that actions refer to by its number: inputs first, then what each action made.
enum State {
    Given(Tree),
    /// Being changed, and of what it began.
    Changed {
        base: Tree,
        change: Arc<Change>,
        mounted: Arc<Root>,
    },
    /// A later action goes on with it.
    Passed,
}

impl State {
    fn tree(&self) -> Tree {
        match self {
            State::Given(tree) => tree.clone(),
            State::Changed { base, change, .. } => base.with(Arc::clone(change)),
            State::Passed => Tree::default(),
        }
    }
}

struct Doing<'a> {
    store: &'a Store,
    work: &'a Arc<Work>,
    trees: Vec<State>,
    /// Told of owners that nobody knows.
    warn: &'a dyn Fn(file::FileError),
}

impl Doing<'_> {
    /// One action; gives the number of what it made.
    fn act(&mut self, action: &FileAction) -> Result<usize> {
        let (base, change, mounted) = self.begin(action)?;
        match &action.action {
            Some(FileActionAction::Copy(copy)) => {
                let from = match action.secondary_input {
                    -1 => Arc::new(Tree::default().read(self.store)?),
                    number => self.read(number)?,
                };
                self.copy(copy, &from, &mounted)?;
            }
            Some(FileActionAction::Mkdir(dir)) => {
                let owner = self.owner(dir.owner.as_ref(), &mounted)?;
                let made = Mkdir {
                    path: dir.path.clone(),
                    mode: bits(dir.mode),
                    make_parents: dir.make_parents,
                    owner,
                    timestamp: time(dir.timestamp),
                };
                file::mkdir(&mounted, &made)?;
            }
            Some(FileActionAction::Mkfile(new)) => {
                let owner = self.owner(new.owner.as_ref(), &mounted)?;
                let made = Mkfile {
                    path: new.path.clone(),
                    mode: bits(new.mode),
                    data: new.data.clone(),
                    owner,
                    timestamp: time(new.timestamp),
                };
                file::mkfile(&mounted, &made)?;
            }
            Some(FileActionAction::Symlink(link)) => {
                let owner = self.owner(link.owner.as_ref(), &mounted)?;
                let made = Symlink {
                    oldpath: link.oldpath.clone(),
                    newpath: link.newpath.clone(),
                    owner,
                    timestamp: time(link.timestamp),
                };
                file::symlink(&mounted, &made)?;
            }
            Some(FileActionAction::Rm(rm)) => {
                let gone = Rm {
                    path: rm.path.clone(),
                    allow_not_found: rm.allow_not_found,
                    allow_wildcard: rm.allow_wildcard,
                };
                file::rm(&mounted, &gone)?;
            }
            None => return Err(Error::new(Kind::Invalid, "a file action that is not known here")),
        }
        // An output stays as it is: whoever goes on with it begins a layer of their own.
        self.trees.push(match action.output {
            -1 => State::Changed { base, change, mounted },
            _ => State::Given(base.with(change)),
        });
        Ok(self.trees.len() - 1)
    }

    /// The tree that an action changes, with a place for the changes: that of the action before it where it goes on with
    /// what that one made.
    fn begin(&mut self, action: &FileAction) -> Result<(Tree, Arc<Change>, Arc<Root>)> {
        let number = usize::try_from(action.input).ok();
        if let Some(place) = number.and_then(|number| self.trees.get_mut(number))
            && matches!(place, State::Changed { .. })
            && let State::Changed { base, change, mounted } = std::mem::replace(place, State::Passed)
        {
            return Ok((base, change, mounted));
        }
        if self.trees.iter().filter(|tree| matches!(tree, State::Changed { .. })).count() >= MAX_CHANGED {
            let text = format!("a file operation changes more than {MAX_CHANGED} trees at a time");
            return Err(Error::new(Kind::Invalid, text));
        }
        let base = match number {
            None => Tree::default(),
            Some(number) => self.tree(number)?,
        };
        let change = self.work.change(&base, self.store)?;
        let mounted = Root::from_fd(base.mount(self.store, &change, None)?);
        Ok((base, change, Arc::new(mounted)))
    }

    fn tree(&self, number: usize) -> Result<Tree> {
        match self.trees.get(number) {
            Some(State::Passed) => {
                Err(Error::new(Kind::Unsupported, "two actions that go on with the same result are not supported"))
            }
            Some(state) => Ok(state.tree()),
            None => Err(Error::new(Kind::Invalid, format!("a file action refers to {number}: there is none"))),
        }
    }

    fn read(&self, number: i64) -> Result<Arc<Root>> {
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        match self.trees.get(number) {
            // Still being changed: seen through its own mount.
            Some(State::Changed { mounted, .. }) => Ok(Arc::clone(mounted)),
            _ => Ok(Arc::new(self.tree(number)?.read(self.store)?)),
        }
    }

    fn copy(&self, copy: &FileActionCopy, from: &Root, to: &Root) -> Result<()> {
        let mode = match (copy.mode_str.as_str(), copy.mode) {
            ("", -1) => None,
            ("", mode) => Some(ModeChange::parse(&format!("{:o}", mode & 0o7777))?),
            (words, _) => Some(ModeChange::parse(words)?),
        };
        let action = Copy {
            selection: selection(copy),
            dest: copy.dest.clone(),
            create_dest_path: copy.create_dest_path,
            owner: self.owner(copy.owner.as_ref(), to)?,
            mode,
            timestamp: time(copy.timestamp),
            attempt_unpack: copy.attempt_unpack_docker_compatibility,
            always_replace_existing_dest_paths: copy.always_replace_existing_dest_paths,
        };
        Ok(file::copy(from, to, &action)?)
    }

    /// Names are looked up in the tree that they are said of, which is mostly the one that is changed.
    fn owner(&self, owner: Option<&ChownOpt>, changed: &Root) -> Result<Option<(u32, u32)>> {
        let Some(owner) = owner else { return Ok(None) };
        let mut input = None;
        let mut word = |user: &Option<UserOpt>| match user.as_ref().and_then(|user| user.user.as_ref()) {
            Some(UserOptUser::ByName(NamedUserOpt { name, input: number })) => {
                input = Some(*number);
                Some(name.clone())
            }
            Some(UserOptUser::ById(id)) => Some(id.to_string()),
            None => None,
        };
        let (user, group) = (word(&owner.user), word(&owner.group));
        let known = match input {
            Some(number) if number >= 0 => match self.trees.get(usize::try_from(number).unwrap_or(usize::MAX)) {
                Some(State::Passed) | None => None,
                Some(_) => Some(self.read(number)?),
            },
            Some(_) => Some(Arc::new(Tree::default().read(self.store)?)),
            None => None,
        };
        Ok(Some(file::owner(known.as_deref().unwrap_or(changed), user.as_deref(), group.as_deref(), self.warn)?))
    }
}

fn bits(mode: i32) -> u32 {
    mode.cast_unsigned() & 0o7777
}

fn time(timestamp: i64) -> Option<i64> {
    (timestamp != -1).then_some(timestamp)
}

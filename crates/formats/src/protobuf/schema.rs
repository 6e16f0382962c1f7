//! Where the description of a message comes from: `.proto` files with what they import, or a set of descriptors.
//!
//! Files are read by whoever calls ([`Files`]); the ones that Google's compiler brings along are known here.

use millstream_core::error::did_you_mean;
use millstream_core::{Error, Result};
use prost_reflect::{DescriptorPool, FileDescriptor, MessageDescriptor};
use protox::file::{File, FileResolver, GoogleFileResolver};
use std::collections::{BTreeMap, BTreeSet};

/// Files that one description may have, and bytes of them in all.
const FILES_MAX: usize = 1000;
pub const SCHEMA_BYTES_MAX: usize = 16 << 20;

/// Names that a message about a missing one lists.
const LISTED_MAX: usize = 20;

/// Who reads the files that options name.
pub trait Files {
    /// The file's bytes; `None`: there is none of this name. An error is a sentence.
    fn read(&self, path: &str) -> std::result::Result<Option<Vec<u8>>, String>;
}

/// For those who read no files.
pub struct NoFiles;

impl Files for NoFiles {
    fn read(&self, _: &str) -> std::result::Result<Option<Vec<u8>>, String> {
        Err("files are not read here".into())
    }
}

/// The sources of one description, by the names that imports use.
#[derive(Debug)]
struct Sources(BTreeMap<String, String>);

impl FileResolver for Sources {
    fn open_file(&self, name: &str) -> std::result::Result<File, protox::Error> {
        match self.0.get(name) {
            Some(text) => File::from_source(name, text),
            None => GoogleFileResolver::new().open_file(name),
        }
    }
}

/// A description of messages.
pub(super) struct Described {
    pool: DescriptorPool,
    /// The files that were asked for, without those that they import.
    roots: Vec<FileDescriptor>,
    /// What the one that was asked for says; `None`: it was a set of descriptors.
    text: Option<String>,
}

impl Described {
    /// Reads the file at `path`, which the option `key` names, and what it imports: beside it or in one of `includes`.
    pub fn read(files: &dyn Files, key: &str, path: &str, includes: &[&str]) -> Result<Described> {
        let bytes = files.read(path).map_err(|why| Error::io(format!("'{key}': {path} cannot be read: {why}")))?;
        let Some(bytes) = bytes else {
            return Err(Error::sql(format!("'{key}': there is no file {path}"))
                .remedy("name a .proto file or a set of descriptors of this machine"));
        };
        if bytes.len() > SCHEMA_BYTES_MAX {
            return Err(Error::sql(format!("'{key}': {path} has more than {} MiB", SCHEMA_BYTES_MAX >> 20))
                .remedy("leave out what the message does not need"));
        }
        if !path.ends_with(".proto") {
            return Described::of_set(&bytes).map_err(|why| {
                Error::sql(format!("'{key}': {path} is no set of descriptors: {why}")).remedy(
                    "make it with protoc --include_imports --descriptor_set_out=FILE, or name the .proto file itself",
                )
            });
        }
        let text = String::from_utf8(bytes)
            .map_err(|_| Error::sql(format!("'{key}': {path} is not UTF-8")).remedy("save it as UTF-8"))?;
        let folder = path.rsplit_once('/').map_or(".", |(folder, _)| if folder.is_empty() { "/" } else { folder });
        // As its neighbours import it, where they do.
        let under = includes.iter().find_map(|i| path.strip_prefix(i.trim_end_matches('/'))?.strip_prefix('/'));
        let name = under.unwrap_or_else(|| path.rsplit('/').next().unwrap_or(path));
        let folders: Vec<&str> = includes.iter().copied().chain([folder]).collect();
        let found = |import: &str| {
            for folder in &folders {
                let path = format!("{}/{import}", folder.trim_end_matches('/'));
                match files.read(&path) {
                    Ok(Some(bytes)) => {
                        return String::from_utf8(bytes).map_err(|_| format!("{path} is not UTF-8")).map(Some);
                    }
                    Ok(None) => {}
                    Err(why) => return Err(format!("{path} cannot be read: {why}")),
                }
            }
            Ok(None)
        };
        Described::of_sources(name, text, found).map_err(|why| {
            Error::sql(format!("'{key}' = '{path}': {why}"))
                .remedy(format!("correct the file; what it imports is looked for in {}", folders.join(" and in ")))
        })
    }

    /// From the text of one file; `found` gives those that are imported.
    pub fn of_sources(
        name: &str,
        text: String,
        found: impl Fn(&str) -> std::result::Result<Option<String>, String>,
    ) -> std::result::Result<Described, String> {
        let own = text.clone();
        let (mut sources, mut bytes) = (BTreeMap::new(), 0);
        let mut next = vec![(name.to_owned(), text)];
        while let Some((name, text)) = next.pop() {
            bytes += text.len();
            if bytes > SCHEMA_BYTES_MAX || sources.len() >= FILES_MAX {
                return Err(format!(
                    "with its imports it is more than {FILES_MAX} files or {} MiB",
                    SCHEMA_BYTES_MAX >> 20
                ));
            }
            let file = File::from_source(&name, &text).map_err(|e| told(&e))?;
            let imports = file.file_descriptor_proto().dependency.clone();
            sources.insert(name.clone(), text);
            for import in imports {
                if sources.contains_key(&import) || next.iter().any(|(name, _)| *name == import) {
                    continue;
                }
                match found(&import)? {
                    Some(text) => next.push((import, text)),
                    None if GoogleFileResolver::new().open_file(&import).is_ok() => {}
                    None => return Err(format!("{name} imports {import}, which is not found")),
                }
            }
        }
        let mut compiler = protox::Compiler::with_file_resolver(Sources(sources));
        compiler.include_imports(true).open_file(name).map_err(|e| told(&e))?;
        let pool = compiler.descriptor_pool();
        let root = pool.get_file_by_name(name).ok_or("its descriptor is missing")?;
        Ok(Described { pool, roots: vec![root], text: Some(own) })
    }

    fn of_set(bytes: &[u8]) -> std::result::Result<Described, String> {
        let pool = DescriptorPool::decode(bytes).map_err(|e| e.to_string())?;
        let imported: BTreeSet<String> =
            pool.files().flat_map(|f| f.dependencies().map(|d| d.name().to_owned()).collect::<Vec<_>>()).collect();
        let roots: Vec<FileDescriptor> = pool.files().filter(|f| !imported.contains(f.name())).collect();
        if roots.is_empty() {
            return Err("there is no file in it".into());
        }
        Ok(Described { pool, roots, text: None })
    }

    /// The message of the name that the option `key` gives; without a name the only one that there is.
    pub fn message(&self, key: &str, name: Option<&str>) -> Result<MessageDescriptor> {
        let own: Vec<MessageDescriptor> = self.roots.iter().flat_map(|f| f.messages().collect::<Vec<_>>()).collect();
        let listed = || {
            let names: Vec<&str> = own.iter().map(MessageDescriptor::full_name).take(LISTED_MAX).collect();
            if names.is_empty() { "none".into() } else { names.join(", ") }
        };
        let Some(name) = name else {
            return match &own[..] {
                [one] => Ok(one.clone()),
                [] => Err(Error::sql("the file describes no message").remedy("name one that does")),
                _ => Err(Error::sql(format!(
                    "the file describes {} messages, and '{key}' names none of them",
                    own.len()
                ))
                .remedy(format!("set '{key}' to one of {}", listed()))),
            };
        };
        if let Some(found) = self.pool.get_message_by_name(name.trim_start_matches('.')) {
            return Ok(found);
        }
        let all: Vec<MessageDescriptor> = self.pool.all_messages().filter(|m| !m.is_map_entry()).collect();
        // Often the package is what was left out.
        let guess = all.iter().find(|m| m.name() == name).map(MessageDescriptor::full_name);
        let guess = guess.or_else(|| did_you_mean(name, all.iter().map(MessageDescriptor::full_name)));
        let guess = guess.map(|g| format!("did you mean '{g}'? ")).unwrap_or_default();
        Err(Error::sql(format!("'{key}': there is no message '{name}'"))
            .remedy(format!("{guess}The file describes {}", listed())))
    }

    /// The text of the file that describes the message, if that is the one that was asked for.
    pub fn text(&self, message: &MessageDescriptor) -> Option<String> {
        self.text.clone().filter(|_| self.roots.contains(&message.parent_file()))
    }

    /// The message that lies at these positions: of the file's messages, of that one's messages, and so on.
    pub fn at(&self, path: &[usize]) -> std::result::Result<MessageDescriptor, String> {
        let none = || format!("its schema has no message at {path:?}");
        let (first, rest) = path.split_first().ok_or_else(none)?;
        let mut found = self.roots.first().and_then(|f| f.messages().nth(*first)).ok_or_else(none)?;
        for at in rest {
            // Bound first: the next one borrows from this one.
            let child = found.child_messages().nth(*at);
            found = child.ok_or_else(none)?;
        }
        Ok(found)
    }
}

/// Where a message lies in its file: what [`Described::at`] follows.
pub(super) fn position(message: &MessageDescriptor) -> Vec<usize> {
    // A path of descriptors: (4, n) for a message of the file, then (3, n) for each one inside.
    message.path().chunks(2).map(|pair| pair.get(1).copied().unwrap_or_default() as usize).collect()
}

/// An error of the compiler with its place, on one line.
fn told(e: &protox::Error) -> String {
    // `Debug` has file, line and column before the sentence; `Display` has the sentence alone.
    format!("{e:?}").replace('\n', " ")
}

//! The contract is frozen: what `wit/plugin.wit` says without its comments is what `contract-0.1.txt` says.
//!
//! A plugin that was built against 0.1.0 must load for ever after. Within 0.1 there may come new interfaces, and new functions
//! in interfaces that the host implements; then add their lines to the file. Anything else breaks plugins that are out
//! there: it is a new package, `0.2`, in a file of its own. Before 0.1 is released, and only until then, lines may change:
//! whoever changes one says so in `CHANGELOG.md`.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use wit_parser::{Function, Handle, Resolve, SourceMap, Type, TypeDefKind, TypeId, TypeOwner};

const FROZEN: &str = include_str!("contract-0.1.txt");

/// Interfaces that the host implements; functions may be added to them.
const OF_THE_HOST: [&str; 6] = ["clock", "config", "kv", "log", "metrics", "model"];

#[test]
fn the_contract_is_frozen() {
    let contract = contract(include_str!("../../../../wit/plugin.wit"));
    let now: BTreeSet<&str> = contract.lines().collect();
    let frozen: BTreeSet<&str> = FROZEN.lines().collect();
    let broken: Vec<_> = frozen.difference(&now).collect();
    assert!(
        broken.is_empty(),
        "plugins that are built cannot be loaded any more, as this is gone or changed: {broken:#?}"
    );
    let old: BTreeSet<&str> = frozen.iter().map(|line| interface(line)).collect();
    let (allowed, forbidden): (Vec<&&str>, Vec<&&str>) = now.difference(&frozen).partition(|line| {
        let interface = interface(line);
        !old.contains(interface) || (OF_THE_HOST.contains(&interface) && line.contains(": func("))
    });
    assert!(forbidden.is_empty(), "this can only come with a new package, 0.2: {forbidden:#?}");
    assert!(allowed.is_empty(), "new in 0.1; freeze it too, by adding it to contract-0.1.txt: {allowed:#?}");
}

#[test]
fn a_change_is_noticed_and_a_comment_is_not() {
    let before = "package a:b@0.1.0;\ninterface i { /// Says.\n record r { a: u8 } f: func(r: r) -> option<u32>; }";
    let frozen = "i.f: func(r: i.r) -> option<u32>\ni.r: record { a: u8 }\n";
    assert_eq!(contract(before), frozen);
    assert_eq!(contract(&before.replace("Says.", "Other words.")), frozen);
    assert_ne!(contract(&before.replace("a: u8", "a: u8, b: u8")), frozen);
    assert_ne!(contract(&before.replace("option<u32>", "u32")), frozen);
}

fn interface(line: &str) -> &str {
    line.split('.').next().unwrap_or_default()
}

/// Every type and function of a package, one a line, sorted.
fn contract(wit: &str) -> String {
    let mut resolve = Resolve::default();
    let mut source = SourceMap::default();
    source.push_str("plugin.wit", wit);
    let group = source.parse().map_err(|(_, error)| error).expect("the package parses");
    let package = resolve.push_group(group).expect("its names are known");
    let mut lines = BTreeSet::new();
    for (interface, &id) in &resolve.packages[package].interfaces {
        let interface_of = &resolve.interfaces[id];
        for (name, &id) in &interface_of.types {
            // `use other.{name}` says nothing new.
            if let Some(said) = definition(&resolve, id) {
                lines.insert(format!("{interface}.{name}: {said}"));
            }
        }
        for (name, function) in &interface_of.functions {
            lines.insert(format!("{interface}.{name}: {}", signature(&resolve, function)));
        }
    }
    for (world, &id) in &resolve.packages[package].worlds {
        let world_of = &resolve.worlds[id];
        let name = |(key, _): (&_, &_)| resolve.name_world_key(key);
        for import in world_of.imports.iter().map(name) {
            lines.insert(format!("world {world}.imports {import}"));
        }
        for export in world_of.exports.iter().map(name) {
            lines.insert(format!("world {world}.exports {export}"));
        }
    }
    lines.into_iter().fold(String::new(), |text, line| text + &line + "\n")
}

fn definition(resolve: &Resolve, id: TypeId) -> Option<String> {
    let fields = |fields: Vec<(&str, Option<Type>)>| {
        let said = fields.into_iter().map(|(name, ty)| match ty {
            Some(ty) => format!("{name}: {}", name_of(resolve, ty)),
            None => name.to_owned(),
        });
        said.collect::<Vec<_>>().join(", ")
    };
    Some(match &resolve.types[id].kind {
        TypeDefKind::Record(record) => {
            let all = record.fields.iter().map(|field| (field.name.as_str(), Some(field.ty))).collect();
            format!("record {{ {} }}", fields(all))
        }
        TypeDefKind::Variant(variant) => {
            let all = variant.cases.iter().map(|case| (case.name.as_str(), case.ty)).collect();
            format!("variant {{ {} }}", fields(all))
        }
        TypeDefKind::Enum(of) => {
            format!("enum {{ {} }}", fields(of.cases.iter().map(|case| (case.name.as_str(), None)).collect()))
        }
        TypeDefKind::Flags(of) => {
            format!("flags {{ {} }}", fields(of.flags.iter().map(|flag| (flag.name.as_str(), None)).collect()))
        }
        TypeDefKind::Resource => "resource".to_owned(),
        TypeDefKind::Type(Type::Id(_)) => return None,
        TypeDefKind::Type(ty) => name_of(resolve, *ty),
        _ => unnamed(resolve, id),
    })
}

fn signature(resolve: &Resolve, function: &Function) -> String {
    let params = function.params.iter().map(|param| format!("{}: {}", param.name, name_of(resolve, param.ty)));
    let mut said = format!("func({})", params.collect::<Vec<_>>().join(", "));
    if let Some(result) = function.result {
        write!(said, " -> {}", name_of(resolve, result)).expect("a string takes everything");
    }
    said
}

fn name_of(resolve: &Resolve, ty: Type) -> String {
    let Type::Id(id) = ty else { return format!("{ty:?}").to_lowercase() };
    let of = &resolve.types[id];
    match (&of.kind, &of.name, of.owner) {
        // The one that is meant, wherever it is used from.
        (TypeDefKind::Type(inner @ Type::Id(_)), _, _) => name_of(resolve, *inner),
        (_, Some(name), TypeOwner::Interface(owner)) => {
            let owner = resolve.interfaces[owner].name.as_deref().unwrap_or_default();
            format!("{owner}.{name}")
        }
        _ => unnamed(resolve, id),
    }
}

fn unnamed(resolve: &Resolve, id: TypeId) -> String {
    let name = |ty: Option<Type>| ty.map_or("_".to_owned(), |ty| name_of(resolve, ty));
    match &resolve.types[id].kind {
        TypeDefKind::List(of) => format!("list<{}>", name(Some(*of))),
        TypeDefKind::Option(of) => format!("option<{}>", name(Some(*of))),
        TypeDefKind::Result(of) => format!("result<{}, {}>", name(of.ok), name(of.err)),
        TypeDefKind::Tuple(of) => {
            format!("tuple<{}>", of.types.iter().map(|&ty| name(Some(ty))).collect::<Vec<_>>().join(", "))
        }
        TypeDefKind::Handle(Handle::Own(of)) => name(Some(Type::Id(*of))),
        TypeDefKind::Handle(Handle::Borrow(of)) => format!("borrow<{}>", name(Some(Type::Id(*of)))),
        other => panic!("{} has no spelling here yet", other.as_str()),
    }
}

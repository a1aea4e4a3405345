//! Python's exception groups: a tree drawn with `|` and `+` in the margin, each leaf a traceback of its own.

#![forbid(unsafe_code)]

use super::{Block, Dialect, Found, python};
use crate::evidence::stack::Exception;

/// A group in a group in a group; deeper ones are read as part of the last.
const DEPTH: usize = 16;

pub fn at(lines: &[&str], at: usize) -> Option<Block> {
    if lines[at].trim_start() != "+ Exception Group Traceback (most recent call last):" {
        return None;
    }
    let size = lines[at..].iter().take_while(|line| margin(line).is_some()).count();
    let next = at + size;
    let root = tree(&lines[at..next]);
    let mut exceptions = Vec::new();
    flatten(root, None, &mut exceptions);
    let Some(last) = exceptions.last() else { return Some(Block { found: None, next }) };
    let ends = python::ends(&last.kind, at.checked_sub(1).map_or("", |before| lines[before]));
    let found = Found { dialect: Dialect::Python, exceptions, threads: Vec::new(), ends, lines: (at, next) };
    Some(Block { found: Some(found), next })
}

/// Where the margin's sign stands, and what is right of it.
fn margin(line: &str) -> Option<(usize, &str)> {
    let text = line.trim_start_matches(' ');
    let rest = text.strip_prefix('|').or_else(|| text.strip_prefix('+'))?;
    Some((line.len() - text.len(), rest))
}

#[derive(Default)]
struct Node<'a> {
    lines: Vec<&'a str>,
    children: Vec<Node<'a>>,
}

fn tree<'a>(lines: &[&'a str]) -> Node<'a> {
    // The path from the root to where lines go now.
    let mut path: Vec<(usize, Node)> = vec![(margin(lines[0]).map_or(0, |(column, _)| column), Node::default())];
    let close = |path: &mut Vec<(usize, Node<'a>)>| {
        if let Some((_, node)) = path.pop()
            && let Some((_, parent)) = path.last_mut()
        {
            parent.children.push(node);
        }
    };
    for line in lines {
        let Some((column, rest)) = margin(line) else { continue };
        // `+-+---- 1 ----` opens the first child, `+---- 2 ----` the next, `+--------` closes the last.
        if let Some(ruler) = rest.trim_start_matches(['-', '+']).strip_prefix(' ')
            && rest.starts_with('-')
        {
            let column = if rest.starts_with("-+") { column + 2 } else { column };
            while path.len() > 1 && path.last().is_some_and(|(at, _)| *at >= column) {
                close(&mut path);
            }
            if path.len() < DEPTH && ruler.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
                path.push((column, Node::default()));
            }
        } else if rest.starts_with("---") {
            while path.len() > 1 && path.last().is_some_and(|(at, _)| *at >= column) {
                close(&mut path);
            }
        } else if let Some((_, node)) = path.last_mut() {
            node.lines.push(rest.strip_prefix(' ').unwrap_or(rest));
        }
    }
    while path.len() > 1 {
        close(&mut path);
    }
    path.pop().map(|(_, node)| node).unwrap_or_default()
}

/// Children before their group, so that the group that was raised comes last.
fn flatten(root: Node<'_>, place: Option<String>, out: &mut Vec<Exception>) {
    let (mut own, _) = match root.lines.iter().position(|line| line.ends_with(python::HEADER)) {
        Some(header) => python::chain(&root.lines, header),
        None => (Vec::new(), 0),
    };
    let mut children = Vec::new();
    for (i, child) in root.children.into_iter().enumerate() {
        let mut members = Vec::new();
        flatten(child, Some(format!("exceptions[{i}]")), &mut members);
        children.push(members);
    }
    let base = out.len();
    let total: usize = children.iter().map(Vec::len).sum::<usize>() + own.len();
    let group = (!own.is_empty()).then(|| base + total - 1);
    for members in children {
        let offset = out.len();
        out.extend(members.into_iter().map(|mut member| {
            member.mechanism.parent = member.mechanism.parent.map(|parent| parent + offset).or(group);
            member
        }));
    }
    let offset = out.len();
    if let (Some(last), true) = (own.last_mut(), offset > base) {
        last.mechanism.is_group = true;
    }
    if let (Some(last), Some(place)) = (own.last_mut(), place) {
        last.mechanism.kind = "chained".to_owned();
        last.mechanism.source = Some(place);
    }
    out.extend(own.into_iter().map(|mut exception| {
        exception.mechanism.parent = exception.mechanism.parent.map(|parent| parent + offset);
        exception
    }));
}

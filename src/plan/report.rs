//! Problems as a person reads them: the message, the line of the plan file with a mark, the
//! field and the hint, the way rustc shows errors. Plan files hold no secrets, so their lines may
//! be shown.

use std::ops::Range;

use annotate_snippets::{Annotation, AnnotationKind, Level, Origin, Renderer, Snippet};

use super::problem::{Problem, Severity};
use crate::report::visible::visible;
use crate::yaml::Place;

/// How many problems are shown in full; more than a person reads at once helps nobody.
const MOST_SHOWN: usize = 50;

/// The problems of a plan file as text, each ended by an empty line.
#[must_use]
pub fn render(problems: &[Problem], text: &str, file: &str, colour: bool) -> String {
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let mut rendered: String =
        problems.iter().take(MOST_SHOWN).map(|problem| render_one(problem, text, file, &renderer) + "\n\n").collect();
    if problems.len() > MOST_SHOWN {
        rendered.push_str(&format!("… and {} more problems\n", problems.len() - MOST_SHOWN));
    }
    rendered
}

fn render_one(problem: &Problem, text: &str, file: &str, renderer: &Renderer) -> String {
    let level = match problem.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(visible(&problem.message)).id(problem.code);
    let related = problem.related.as_ref();
    let places = [Some(problem.place), related.map(|related| related.place)];
    let mut group = if problem.line == 0 || text.is_empty() {
        title.element(Origin::path(file))
    } else {
        let window = window(text, places.into_iter().flatten());
        let field = visible(&problem.path.to_string());
        let mut snippet = Snippet::source(&text[window.clone()])
            .path(file)
            .line_start(1 + text[..window.start].matches('\n').count())
            .annotation(mark(AnnotationKind::Primary, problem.place, text, &window).label(field));
        if let Some(related) = related.filter(|related| related.place.line > 0 && related.place != problem.place) {
            let mark = mark(AnnotationKind::Context, related.place, text, &window);
            snippet = snippet.annotation(mark.label(visible(&related.message)));
        }
        title.element(snippet)
    };
    if let Some(hint) = &problem.hint {
        group = group.element(Level::HELP.message(visible(hint)));
    }
    renderer.render(&[group])
}

/// The lines that hold all places, so that a big file is not searched once per problem.
fn window(text: &str, places: impl Iterator<Item = Place>) -> Range<usize> {
    let (mut first, mut last) = (text.len(), 0);
    for place in places.filter(|place| place.line > 0) {
        let within = within(place, text);
        first = first.min(within.start);
        last = last.max(within.end);
    }
    let first = first.min(last);
    let start = text[..first].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[last..].find('\n').map_or(text.len(), |newline| last + newline);
    start..end
}

fn mark<'a>(kind: AnnotationKind, place: Place, text: &str, window: &Range<usize>) -> Annotation<'a> {
    let within = within(place, text);
    kind.span(within.start - window.start..within.end - window.start)
}

/// The bytes of the first line of a place, cut to whole characters of the text.
fn within(place: Place, text: &str) -> Range<usize> {
    let floor = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let (start, end) = (floor(place.start), floor(place.end.max(place.start)));
    let line_end = text[start..end].find('\n').map_or(end, |newline| start + newline);
    start..line_end
}

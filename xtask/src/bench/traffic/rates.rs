//! Figures of repeated runs, and the table of them.

use super::SIDES;

/// What a figure counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes per second, shown in bits.
    Bits,
    PerSecond,
    /// The only one of which less is better.
    Microseconds,
}

/// What is wanted; what is not named is not wanted.
#[derive(Clone, Copy)]
pub struct Goal {
    /// Times dockerd.
    pub peer: Option<f64>,
    /// Times what there is without an engine.
    pub bare: Option<f64>,
    /// Below this.
    pub most: Option<f64>,
}

/// One figure of several runs.
pub struct Rates(Vec<f64>);

impl Rates {
    /// A column of the runs.
    pub fn of(runs: &[Vec<f64>], column: usize) -> Self {
        let mut values: Vec<f64> = runs.iter().filter_map(|run| run.get(column).copied()).collect();
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    fn quantile(&self, share: f64) -> f64 {
        let at = (self.0.len().saturating_sub(1) as f64 * share).round() as usize;
        self.0.get(at).copied().unwrap_or(f64::NAN)
    }

    fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// Median and the middle half.
    fn shown(&self, unit: Unit) -> String {
        let (scale, digits, name) = match unit {
            Unit::Bits => (8e-9, 2, "Gbit/s"),
            Unit::PerSecond => (1e-3, 1, "thousand/s"),
            Unit::Microseconds => (1.0, 0, "µs"),
        };
        let [half, low, high] = [0.5, 0.25, 0.75].map(|share| self.quantile(share) * scale);
        format!("{half:.digits$} {name} ({low:.digits$}–{high:.digits$})")
    }
}

pub struct Row(Vec<String>);

impl Row {
    /// `sides` are nobody, dockerd and dhow.
    pub fn new(work: &str, unit: Unit, goal: Goal, sides: [Rates; SIDES]) -> Self {
        let [bare, peer, ours] = &sides;
        let ratio = |other: &Rates| match unit {
            Unit::Microseconds => other.median() / ours.median(),
            _ => ours.median() / other.median(),
        };
        let (to_peer, to_bare) = (ratio(peer), ratio(bare));
        let wanted = |goal: Option<f64>, of: &str| goal.map(|times| format!("≥ {times}× {of}"));
        let goals: Vec<String> =
            [wanted(goal.bare, "bare"), wanted(goal.peer, "dockerd"), goal.most.map(|most| format!("< {most} µs"))]
                .into_iter()
                .flatten()
                .collect();
        let met = goal.bare.is_none_or(|times| to_bare >= times)
            && goal.peer.is_none_or(|times| to_peer >= times)
            && goal.most.is_none_or(|most| ours.median() < most);
        let goals = match (goals.is_empty(), met) {
            (true, _) => "–".to_owned(),
            (false, true) => format!("{} (met)", goals.join(", ")),
            (false, false) => format!("{} (not met)", goals.join(", ")),
        };
        let [bare, peer, ours] = [bare, peer, ours].map(|rates| rates.shown(unit));
        eprintln!("  {work}: bare {bare}, dockerd {peer}, dhow {ours}, {to_peer:.2}× dockerd, {to_bare:.2}× bare");
        let ratios = [to_peer, to_bare].map(|ratio| format!("{ratio:.2}×"));
        let [to_peer, to_bare] = ratios;
        Self(vec![work.to_owned(), goals, bare, peer, ours, to_peer, to_bare])
    }
}

pub fn table(rows: &[Row]) {
    println!(
        "\n| traffic | goal | bare kernel, median (middle half) | dockerd | dhow | to dockerd | to bare |\n\
         |---|---|---|---|---|---|---|"
    );
    for Row(cells) in rows {
        println!("| {} |", cells.join(" | "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_met_by_all_of_their_parts() {
        let row = |unit, goal, sides: [f64; SIDES]| {
            Row::new("w", unit, goal, sides.map(|value| Rates::of(&[vec![value], vec![value], vec![1e9]], 0))).0
        };
        let goal = Goal { peer: Some(1.0), bare: Some(0.95), most: None };
        assert_eq!(row(Unit::PerSecond, goal, [100.0, 90.0, 96.0])[1], "≥ 0.95× bare, ≥ 1× dockerd (met)");
        assert!(row(Unit::PerSecond, goal, [100.0, 90.0, 94.0])[1].ends_with("(not met)"));
        assert!(row(Unit::PerSecond, goal, [100.0, 97.0, 96.0])[1].ends_with("(not met)"));
        let quick = Goal { peer: Some(5.0), bare: None, most: Some(1000.0) };
        let cells = row(Unit::Microseconds, quick, [10.0, 500.0, 100.0]);
        assert_eq!([&cells[1], &cells[5], &cells[6]], ["≥ 5× dockerd, < 1000 µs (met)", "5.00×", "0.10×"]);
        assert!(row(Unit::Microseconds, quick, [10.0, 6000.0, 1000.0])[1].ends_with("(not met)"));
    }
}

//! Tables with Docker's layout: columns padded to their widest cell plus three, at least ten wide, the last one padded
//! like the others.

/// Narrowest column including its padding.
const MIN_WIDTH: usize = 10;
/// Spaces between columns.
const PADDING: usize = 3;

/// Lays out rows whose cells are separated by tabs. A trailing cell is not padded, as in tabular text of Go.
pub(crate) fn align(rows: &[String]) -> String {
    align_with(rows, MIN_WIDTH, PADDING)
}

/// As [`align`] with other widths; `top` uses none of the minimum.
pub(crate) fn align_with(rows: &[String], min: usize, padding: usize) -> String {
    let split: Vec<Vec<&str>> = rows.iter().map(|row| row.split('\t').collect()).collect();
    let columns = split.iter().map(Vec::len).max().unwrap_or(0);
    let mut widths = vec![0; columns];
    for row in &split {
        // The last cell of a row ends the line and does not widen its column.
        for (at, cell) in row.iter().enumerate().take(row.len().saturating_sub(1)) {
            widths[at] = widths[at].max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for row in &split {
        for (at, cell) in row.iter().enumerate() {
            out.push_str(cell);
            if at + 1 < row.len() {
                let width = if widths[at] == 0 { 0 } else { (widths[at] + padding).max(min) };
                out.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
            }
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::align;

    #[test]
    fn columns_have_docker_widths() {
        let rows = ["IMAGE\tNAMES".to_owned(), "a-long-image-name\tx".to_owned()];
        assert_eq!(align(&rows), "IMAGE               NAMES\na-long-image-name   x\n");
        assert_eq!(align(&["A\tB".to_owned()]), "A         B\n");
    }
}

//! Aligns columns as Go's text/tabwriter does (<https://pkg.go.dev/text/tabwriter>): a cell ends with a tab, and a
//! column is a run of lines that all have such a cell at that place. The last cell of a line is not aligned.

/// Lines of tab-separated cells, aligned with spaces.
pub(crate) fn align(text: &str, min_width: usize, padding: usize) -> String {
    let lines: Vec<Vec<&str>> = text
        .split('\n')
        .map(|line| line.split('\t').collect())
        .collect();
    let widths = column_widths(&lines, min_width, padding);
    let mut out = String::with_capacity(text.len() * 2);
    for (at, (cells, widths)) in lines.iter().zip(&widths).enumerate() {
        if at > 0 {
            out.push('\n');
        }
        for (cell, width) in cells.iter().zip(widths) {
            out.push_str(cell);
            out.extend(std::iter::repeat_n(
                ' ',
                width.saturating_sub(cell.chars().count()),
            ));
        }
        if let Some(last) = cells.last() {
            out.push_str(last);
        }
    }
    out
}

/// For each line the width of each cell that ends with a tab.
fn column_widths(lines: &[Vec<&str>], min_width: usize, padding: usize) -> Vec<Vec<usize>> {
    let mut widths: Vec<Vec<usize>> = lines.iter().map(|cells| vec![0; cells.len() - 1]).collect();
    let columns = widths.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..columns {
        let mut line = 0;
        while line < lines.len() {
            let run = lines[line..]
                .iter()
                .take_while(|cells| column + 1 < cells.len())
                .count();
            let block = line..line + run;
            let text = |cells: &Vec<&str>| cells[column].chars().count() + padding;
            let width = lines[block.clone()]
                .iter()
                .map(text)
                .max()
                .unwrap_or(0)
                .max(min_width);
            for widths in &mut widths[block] {
                widths[column] = width;
            }
            line += run.max(1);
        }
    }
    widths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_padded_and_the_last_cell_is_not() {
        let table = "A\tLONG TITLE\tC\nvalue that is long\tx\tlast\n";
        assert_eq!(
            align(table, 10, 3),
            "A                    LONG TITLE   C\nvalue that is long   x            last\n"
        );
        assert_eq!(
            align("a\tb\nno tabs\nlonger\tb\n", 0, 1),
            "a b\nno tabs\nlonger b\n"
        );
        assert_eq!(align("", 10, 3), "");
    }
}

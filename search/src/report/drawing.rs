//! An architecture as a picture: one column a block, heads upwards, feed-forward ratio downwards.

use std::fmt::Write as _;

use masktas_export::VitArch;

/// Width of a column.
const COLUMN: f64 = 38.0;
/// Height of one head, and of a ratio of one.
const UNIT: f64 = 13.0;
const LEFT: f64 = 84.0;

/// Draws an architecture.
pub fn architecture(arch: &VitArch) -> String {
    let ratio = |hidden: usize| hidden as f64 / arch.embed.max(1) as f64;
    let heads = arch.blocks.iter().map(|block| block.heads).max().unwrap_or(1) as f64;
    let ratios = arch.blocks.iter().map(|block| ratio(block.hidden)).fold(1.0, f64::max);
    // Wide spaces have many heads: their columns are drawn flatter.
    let unit = UNIT.min(90.0 / heads);
    let (middle, width) = (26.0 + heads * unit, LEFT + COLUMN * arch.blocks.len() as f64 + 8.0);
    let height = middle + 8.0 + ratios * UNIT + 36.0;
    let mut svg = format!(
        "<svg class=\"arch\" viewBox=\"0 0 {width} {height:.1}\" style=\"max-width:{width}px\" role=\"img\" \
         aria-label=\"width {}, {} blocks\" xmlns=\"http://www.w3.org/2000/svg\">\n",
        arch.embed,
        arch.blocks.len()
    );
    let label = |y: f64, text: &str| format!("<text class=\"name\" x=\"0\" y=\"{y:.1}\">{text}</text>\n");
    svg.push_str(&label(middle - heads * unit / 2.0 + 4.0, "heads"));
    svg.push_str(&label(middle + 8.0 + ratios * UNIT / 2.0 + 4.0, "MLP ratio"));
    svg.push_str(&label(height - 6.0, "block"));
    for (at, block) in arch.blocks.iter().enumerate() {
        let x = LEFT + COLUMN * at as f64;
        let wide = COLUMN - 8.0;
        for head in 0..block.heads {
            let y = middle - (head + 1) as f64 * unit;
            // Writing to a string cannot fail, here and below.
            let _ = writeln!(
                svg,
                "<rect class=\"head\" x=\"{x}\" y=\"{y:.1}\" width=\"{wide}\" height=\"{:.1}\" rx=\"2\"/>",
                unit - 2.0
            );
        }
        let share = ratio(block.hidden);
        let _ = writeln!(
            svg,
            "<rect class=\"mlp\" x=\"{x}\" y=\"{:.1}\" width=\"{wide}\" height=\"{:.1}\" rx=\"2\"/>",
            middle + 8.0,
            share * UNIT
        );
        let mut word = |y: f64, class: &str, text: &str| {
            let middle = x + wide / 2.0;
            let _ = writeln!(
                svg,
                "<text class=\"{class}\" x=\"{middle}\" y=\"{y:.1}\" text-anchor=\"middle\">{text}</text>"
            );
        };
        word(middle - block.heads as f64 * unit - 6.0, "tick", &block.heads.to_string());
        let rounded = (share * 100.0).round() / 100.0;
        word(middle + 8.0 + share * UNIT + 14.0, "tick", &rounded.to_string());
        word(height - 6.0, "tick", &(at + 1).to_string());
    }
    svg.push_str("</svg>");
    svg
}

#[cfg(test)]
mod tests {
    use masktas_export::VitBlock;

    use super::*;

    #[test]
    fn one_square_a_head_and_one_bar_a_block() {
        let blocks = vec![VitBlock { heads: 3, hidden: 384 }, VitBlock { heads: 2, hidden: 336 }];
        let arch = VitArch { image: 32, patch: 4, embed: 96, head_dim: 32, blocks, relative: None };
        let svg = architecture(&arch);
        assert_eq!(svg.matches("class=\"head\"").count(), 5);
        assert_eq!(svg.matches("class=\"mlp\"").count(), 2);
        assert!(svg.contains(">3.5<") && svg.contains(">4<"), "{svg}");
    }
}

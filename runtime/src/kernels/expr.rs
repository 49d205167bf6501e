//! Expressions as WGSL: the functions that finish a kernel's results.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::kernels::op::{Binary, Expr, Instr, Unary};

/// Type of an instruction's result on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `f32`.
    Float,
    /// `i32`.
    Int,
}

/// Text of an expression: helper functions it calls, statements, and the name of the result.
#[derive(Debug, Default)]
pub(crate) struct Text {
    /// Names of [`function`]s.
    pub functions: BTreeSet<&'static str>,
    /// `let` statements.
    pub lines: String,
    /// The result's name.
    pub result: String,
}

/// Whether every instruction of an expression has a text for vectors of four.
pub(crate) fn goes_by_fours(expr: &Expr) -> bool {
    expr.0.iter().all(|instr| match instr {
        Instr::Acc | Instr::Load(_) | Instr::Float(_) | Instr::Int(_) => true,
        Instr::ToFloat(_) | Instr::ToInt(_) => true,
        Instr::Unary(f, _) => matches!(
            f,
            Unary::Sqrt
                | Unary::Exp
                | Unary::Log
                | Unary::Erf
                | Unary::Gelu
                | Unary::GeluTanh
                | Unary::Tanh
                | Unary::Sigmoid
                | Unary::Relu
                | Unary::Reciprocal
                | Unary::Neg
                | Unary::Abs
                | Unary::Floor
                | Unary::Ceil
                | Unary::Sin
                | Unary::Cos
                | Unary::HardSwish
                | Unary::Round
                | Unary::Sign
        ),
        Instr::Binary(f, ..) => !f.is_test(),
        Instr::Select(..) | Instr::ToBool(_) => false,
    })
}

/// Writes `expr` with each load as `load(input)` gives it and the core's result as `acc`.
pub(crate) fn write(
    expr: &Expr,
    fours: bool,
    acc: Kind,
    mut load: impl FnMut(usize) -> (String, Kind),
) -> Text {
    let (real, whole) = if fours { ("vec4<f32>", "vec4<i32>") } else { ("f32", "i32") };
    let mut text = Text::default();
    let mut kinds: Vec<Kind> = Vec::new();
    for (place, instr) in expr.0.iter().enumerate() {
        let kind_of = |i: &usize| kinds.get(*i).copied().unwrap_or(Kind::Float);
        let (value, kind) = match instr {
            Instr::Acc => ("acc".to_owned(), acc),
            Instr::Load(i) => load(*i),
            // The shortest text of the greatest float rounds beyond it in compilers that parse 64 bits.
            Instr::Float(v) if v.abs() < f32::MAX => (format!("{real}({v:?}f)"), Kind::Float),
            Instr::Float(v) => {
                text.functions.insert("bits");
                (format!("{real}(bits({:#x}u))", v.to_bits()), Kind::Float)
            }
            Instr::Int(v) => (format!("{whole}({v})"), Kind::Int),
            Instr::Unary(f, a) => unary(*f, &format!("t{a}"), kind_of(a), &mut text.functions),
            Instr::Binary(f, a, b) => {
                binary(*f, &format!("t{a}"), &format!("t{b}"), kind_of(a), &mut text.functions)
            }
            Instr::Select(c, a, b) => (format!("select(t{b}, t{a}, t{c} != 0)"), kind_of(a)),
            Instr::ToFloat(a) => (format!("{real}(t{a})"), Kind::Float),
            Instr::ToInt(a) => (format!("{whole}(t{a})"), Kind::Int),
            Instr::ToBool(a) if kind_of(a) == Kind::Float => {
                (format!("select(0, 1, t{a} != 0.0)"), Kind::Int)
            }
            Instr::ToBool(a) => (format!("select(0, 1, t{a} != 0)"), Kind::Int),
        };
        let _ = writeln!(text.lines, "    let t{place} = {value};");
        text.result = format!("t{place}");
        kinds.push(kind);
    }
    text
}

fn unary(f: Unary, a: &str, kind: Kind, functions: &mut BTreeSet<&'static str>) -> (String, Kind) {
    let mut call = |name: &'static str| {
        functions.insert(name);
        format!("{name}_({a})")
    };
    let value = match f {
        Unary::Sqrt => format!("sqrt({a})"),
        Unary::Exp => format!("exp({a})"),
        Unary::Log => format!("log({a})"),
        Unary::Erf => call("erf"),
        Unary::Gelu => call("gelu"),
        Unary::GeluTanh => call("gelu_tanh"),
        Unary::Tanh => call("tanh"),
        Unary::Sigmoid => call("sigmoid"),
        Unary::Relu => call("relu"),
        Unary::HardSwish => call("hard_swish"),
        Unary::Reciprocal => format!("1.0 / {a}"),
        Unary::Neg => format!("-{a}"),
        Unary::Abs => format!("abs({a})"),
        Unary::Floor => format!("floor({a})"),
        Unary::Ceil => format!("ceil({a})"),
        Unary::Sin => format!("sin({a})"),
        Unary::Cos => format!("cos({a})"),
        Unary::Round => format!("round({a})"),
        Unary::Sign => format!("sign({a})"),
        Unary::Half => call("half"),
        Unary::Bf16 => call("bf16"),
        Unary::WrapU8 => format!("({a} & 255)"),
        Unary::WrapU16 => format!("({a} & 65535)"),
        Unary::WrapI8 => format!("(({a} << 24u) >> 24u)"),
        Unary::WrapI16 => format!("(({a} << 16u) >> 16u)"),
        Unary::Not => format!("select(0, 1, {a} == 0)"),
    };
    (value, if f == Unary::Not { Kind::Int } else { kind })
}

fn binary(f: Binary, a: &str, b: &str, kind: Kind, functions: &mut BTreeSet<&'static str>) -> (String, Kind) {
    let test = |t: String| (format!("select(0, 1, {t})"), Kind::Int);
    match f {
        Binary::Add => (format!("{a} + {b}"), kind),
        Binary::Sub => (format!("{a} - {b}"), kind),
        Binary::Mul => (format!("{a} * {b}"), kind),
        Binary::Div => (format!("{a} / {b}"), kind),
        Binary::Max => (format!("max({a}, {b})"), kind),
        Binary::Min => (format!("min({a}, {b})"), kind),
        Binary::Rem => (format!("{a} % {b}"), kind),
        Binary::Pow => {
            functions.insert("pow");
            (format!("pow_({a}, {b})"), Kind::Float)
        }
        Binary::Equal => test(format!("{a} == {b}")),
        Binary::Less => test(format!("{a} < {b}")),
        Binary::LessOrEqual => test(format!("{a} <= {b}")),
        Binary::And => test(format!("{a} != 0 && {b} != 0")),
        Binary::Or => test(format!("{a} != 0 || {b} != 0")),
    }
}

/// The text of the named helpers and of those they call, for `f32` or for vectors of four.
pub(crate) fn functions(names: &BTreeSet<&'static str>, fours: bool) -> String {
    let mut all = names.clone();
    if names.contains("gelu") {
        all.insert("erf");
    }
    if names.contains("gelu_tanh") {
        all.insert("tanh");
    }
    // WGSL wants functions neither ordered nor declared before use.
    let real = if fours { "vec4<f32>" } else { "f32" };
    all.iter().map(|name| function(name).replace("REAL", real)).collect()
}

/// Coefficients of `erf(x) / x` in `x^2` for `|x| < 1`, by Chebyshev interpolation; error 1.4e-9.
pub(crate) const ERF_NEAR: [f64; 7] = [
    1.128_379_165_881_501_5,
    -0.376_126_269_035_797_05,
    0.112_835_974_634_878_67,
    -0.026_854_328_796_158_636,
    0.005_189_311_942_957_317_5,
    -0.000_801_885_499_574_268_5,
    7.882_497_121_272_536e-5,
];

/// Coefficients of `erfc(x) exp(x^2)` in `1 / (1 + 0.35 x)` for `x >= 1`; error of `erf` 5e-9.
pub(crate) const ERF_FAR: [f64; 6] = [
    -0.002_596_168_459_229_22,
    0.228_980_341_597_890_3,
    0.038_348_492_605_192_075,
    0.611_781_176_332_145,
    -0.471_037_776_933_772_13,
    0.594_958_917_278_091_1,
];

fn horner(coefficients: &[f64], variable: &str) -> String {
    let mut text = String::new();
    for (power, c) in coefficients.iter().enumerate().rev() {
        let c = *c as f32;
        text =
            if text.is_empty() { format!("REAL({c:?}f)") } else { format!("({text}) * {variable} + {c:?}f") };
        if power == 0 {
            break;
        }
    }
    text
}

fn function(name: &str) -> String {
    match name {
        "bits" => "fn bits(pattern: u32) -> f32 { return bitcast<f32>(pattern); }\n".to_owned(),
        "erf" => format!(
            "fn erf_(x: REAL) -> REAL {{\n    let a = abs(x);\n    let z = x * x;\n    \
             let near = x * ({});\n    let t = 1.0 / (0.35 * a + 1.0);\n    \
             let far = sign(x) * (1.0 - exp(-z) * ({}));\n    return select(far, near, a < REAL(1.0));\n}}\n",
            horner(&ERF_NEAR, "z"),
            horner(&ERF_FAR, "t")
        ),
        "gelu" => "fn gelu_(x: REAL) -> REAL { return 0.5 * x * (1.0 + erf_(x * 0.70710678)); }\n".to_owned(),
        "gelu_tanh" => "fn gelu_tanh_(x: REAL) -> REAL {\n    \
             return 0.5 * x * (1.0 + tanh_(0.7978846 * (x + 0.044715 * x * x * x)));\n}\n"
            .to_owned(),
        // Some drivers overflow beyond 88; the bounds are written so that NaN passes.
        "tanh" => "fn tanh_(x: REAL) -> REAL {\n    \
             let low = select(x, REAL(15.0), x > REAL(15.0));\n    \
             return tanh(select(low, REAL(-15.0), x < REAL(-15.0)));\n}\n"
            .to_owned(),
        "sigmoid" => "fn sigmoid_(x: REAL) -> REAL { return 1.0 / (1.0 + exp(-x)); }\n".to_owned(),
        "relu" => "fn relu_(x: REAL) -> REAL { return select(x, REAL(0.0), x < REAL(0.0)); }\n".to_owned(),
        "hard_swish" => {
            "fn hard_swish_(x: REAL) -> REAL { return x * clamp(x / 6.0 + 0.5, REAL(0.0), REAL(1.0)); }\n"
                .to_owned()
        }
        // Beyond the greatest half the product overflows to infinity; NaN passes.
        "half" => "fn half_(x: f32) -> f32 {\n    if (abs(x) >= 65520.0) { return x * 3e38; }\n    \
             return unpack2x16float(pack2x16float(vec2<f32>(x, 0.0))).x;\n}\n"
            .to_owned(),
        "bf16" => "fn bf16_(x: f32) -> f32 {\n    let bits = bitcast<u32>(x);\n    \
             let near = bitcast<f32>((bits + 0x7fffu + ((bits >> 16u) & 1u)) & 0xffff0000u);\n    \
             return select(x, near, x == x);\n}\n"
            .to_owned(),
        // WGSL's pow is undefined for a negative base and for zero to the zero.
        "pow" => "fn pow_(a: REAL, b: REAL) -> REAL {\n    \
             let p = pow(abs(a), b);\n    \
             let whole = floor(b) == b;\n    \
             let odd = abs(b) - 2.0 * floor(abs(b) * 0.5) == REAL(1.0);\n    \
             let negative = select(select(p, -p, odd), sqrt(a), !whole);\n    \
             return select(select(p, negative, a < REAL(0.0)), REAL(1.0), b == REAL(0.0));\n}\n"
            .to_owned(),
        _ => String::new(),
    }
}

//! Whether what the project gave is what the case wants.

use serde_json::Value;

use crate::{
    answer::{Answer, Values},
    array::Array,
    case::{Case, Limit},
};

/// Everything that is wrong, one sentence each; empty when the case passes.
pub(crate) fn problems(case: &Case, answer: &Answer) -> Vec<String> {
    match answer {
        Answer::Refused { why, .. } if !case.expects_error => {
            vec![format!("the call returned an error: {why}")]
        }
        Answer::Refused { state, .. } => tensors(case, state),
        Answer::Values(_) | Answer::Judged(_) if case.expects_error => {
            vec!["the call should have returned an error".into()]
        }
        Answer::Judged(problems) => problems.clone(),
        Answer::Values(values) => {
            let mut all = tensors(case, values);
            for (key, want) in &case.expect {
                match values.json.get(key) {
                    Some(got) => all.extend(value(case.limits.values(), key, got, want)),
                    None => all.push(format!("{key} was not produced")),
                }
            }
            all
        }
    }
}

/// Every `out.*` and `grad.*` of the file.
fn tensors(case: &Case, values: &Values) -> Vec<String> {
    let wanted = case
        .tensors
        .iter()
        .filter(|(name, _)| name.starts_with("out.") || name.starts_with("grad."));
    wanted
        .filter_map(|(name, want)| match values.tensors.get(name) {
            Some(got) => tensor(case, name, got, want).err(),
            None => Some(format!("{name} was not produced")),
        })
        .collect()
}

/// A mask is bytes in a tensor of ours.
fn same_type(got: &str, want: &str) -> bool {
    got == want || matches!((got, want), ("u8", "bool") | ("bool", "u8"))
}

fn tensor(case: &Case, name: &str, got: &Array, want: &Array) -> Result<(), String> {
    if got.shape != want.shape {
        return Err(format!("{name}: got shape {:?}, want {:?}", got.shape, want.shape));
    }
    if !same_type(got.dtype(), want.dtype()) {
        return Err(format!("{name}: got type {}, want {}", got.dtype(), want.dtype()));
    }
    let wrong: Vec<(usize, String)> = if let (Some(g), Some(w)) = (got.floats(), want.floats()) {
        let limit = case
            .limits
            .of(name, want.dtype())
            .ok_or_else(|| format!("{name}: the case gives no limit"))?;
        let pairs = g.into_iter().zip(w).enumerate();
        pairs
            .filter(|&(_, (g, w))| !near(limit, g, w))
            .map(|(i, (g, w))| {
                (i, format!("got {g:?}, want {w:?} (limit {:.2e})", limit.around(w)))
            })
            .collect()
    } else if let (Some(g), Some(w)) = (got.integers(), want.integers()) {
        let pairs = g.into_iter().zip(w).enumerate();
        pairs
            .filter(|&(_, (g, w))| {
                g != w && !(is_nan_pattern(&case.op, g) && is_nan_pattern(&case.op, w))
            })
            .map(|(i, (g, w))| (i, format!("got {g}, want {w}")))
            .collect()
    } else {
        return Err(format!("{name}: got type {}, want {}", got.dtype(), want.dtype()));
    };
    match wrong.first() {
        None => Ok(()),
        Some((i, first)) => {
            let index = unravel(*i, &want.shape);
            let more = match wrong.len() {
                1 => String::new(),
                n => format!(", {n} of {} elements are off", want.len()),
            };
            Err(format!("{name}{index:?}: {first}{more}"))
        }
    }
}

/// NaN equals NaN, an infinity only itself.
fn near(limit: Limit, got: f64, want: f64) -> bool {
    if want.is_nan() {
        got.is_nan()
    } else if want.is_infinite() {
        got == want
    } else {
        (got - want).abs() <= limit.around(want)
    }
}

/// Whether these bits are a NaN of the format that the op rounds to.
fn is_nan_pattern(op: &str, bits: i64) -> bool {
    match op {
        "round_bf16" => bits & 0x7fff > 0x7f80,
        "round_f16" => bits & 0x7fff > 0x7c00,
        "round_fp8_e4m3" => bits & 0x7f == 0x7f,
        "round_fp8_e5m2" => bits & 0x7f > 0x7c,
        _ => false,
    }
}

fn unravel(mut i: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (slot, &n) in index.iter_mut().zip(shape).rev() {
        *slot = i % n;
        i /= n;
    }
    index
}

/// Numbers written as fractions are compared within the limit, everything else exactly.
fn value(limit: Limit, at: &str, got: &Value, want: &Value) -> Option<String> {
    match (got, want) {
        (Value::Array(g), Value::Array(w)) if g.len() == w.len() => g
            .iter()
            .zip(w)
            .enumerate()
            .find_map(|(i, (g, w))| value(limit, &format!("{at}[{i}]"), g, w)),
        (Value::Array(g), Value::Array(w)) => {
            Some(format!("{at}: got {} entries, want {}", g.len(), w.len()))
        }
        (Value::Object(g), Value::Object(w)) => w.iter().find_map(|(key, w)| match g.get(key) {
            Some(g) => value(limit, &format!("{at}.{key}"), g, w),
            None => Some(format!("{at}.{key} was not produced")),
        }),
        (Value::Number(g), Value::Number(w)) => {
            let (g, w, exact) = (g.as_f64()?, w.as_f64()?, !w.is_f64());
            let limit = if exact { Limit::EXACT } else { limit };
            (!near(limit, g, w))
                .then(|| format!("{at}: got {g:?}, want {w:?} (limit {:.2e})", limit.around(w)))
        }
        _ => (got != want).then(|| format!("{at}: got {got}, want {want}")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::{
        answer::number,
        array::Data,
        case::{Args, Limits},
    };

    fn case(want: Array) -> Case {
        let file = json!({"op": "x", "args": {}, "expect": {}, "tol": {"rtol": 0.0, "atol": 0.0}});
        let mut case = Case::parse_json(file.to_string().as_bytes()).unwrap();
        let tol = json!({"f32": {"rtol": 0.1, "atol": 0.0}, "tensors": {"out.wide": {"rtol": 1.0, "atol": 0.0}}});
        case.limits = Limits::of_tensors(&tol).unwrap();
        case.tensors = BTreeMap::from([("out.y".to_owned(), want)]);
        case
    }

    fn check(want: Array, got: Array) -> Vec<String> {
        let mut values = Values::new();
        values.out("y", got);
        problems(&case(want), &values.into())
    }

    fn floats(values: &[f32]) -> Array {
        Array::row(values.to_vec())
    }

    #[test]
    fn floats_within_the_limit_pass() {
        const INF: f32 = f32::INFINITY;
        let want = floats(&[1.0, f32::NAN, INF, -INF, 0.0]);
        assert_eq!(check(want.clone(), floats(&[1.09, f32::NAN, INF, -INF, -0.0])), [""; 0]);
        for wrong in [
            [1.2, f32::NAN, INF, -INF, 0.0],
            [f32::NAN, f32::NAN, INF, -INF, 0.0],
            [1.0, 1.0, INF, -INF, 0.0],
            [1.0, f32::NAN, -INF, -INF, 0.0],
            [1.0, f32::NAN, f32::MAX, -INF, 0.0],
            [1.0, f32::NAN, f32::NAN, -INF, 0.0],
            [1.0, f32::NAN, INF, -INF, 1e-30],
        ] {
            assert_eq!(check(want.clone(), floats(&wrong)).len(), 1, "{wrong:?}");
        }
    }

    #[test]
    fn shapes_types_and_missing_tensors_fail() {
        let want = Array::f32(&[1, 2], vec![1.0, 2.0]);
        assert_eq!(check(want.clone(), floats(&[1.0, 2.0])), ["out.y: got shape [2], want [1, 2]"]);
        let double = Array::new(&[1, 2], Data::F64(vec![1.0, 2.0]));
        assert_eq!(check(want.clone(), double), ["out.y: got type f64, want f32"]);
        let found = problems(&case(want), &Values::new().into());
        assert_eq!(found, ["out.y was not produced"]);
        let empty = || Array::f32(&[0, 3], vec![]);
        assert_eq!(check(empty(), empty()), [""; 0]);
    }

    #[test]
    fn the_worst_is_named_with_its_index() {
        let got = Array::f32(&[2, 2], vec![1.0, 1.0, 3.0, 1.0]);
        let found = check(Array::f32(&[2, 2], vec![1.0; 4]), got);
        assert_eq!(found, ["out.y[1, 0]: got 3.0, want 1.0 (limit 1.00e-1)"]);
    }

    #[test]
    fn integers_are_exact_and_masks_are_bytes() {
        let ints = |v: &[i64]| Array::new(&[v.len()], Data::I64(v.to_vec()));
        assert_eq!(check(ints(&[1, -2]), ints(&[1, -2])), [""; 0]);
        assert_eq!(check(ints(&[1, -2]), ints(&[1, 2])), ["out.y[1]: got 2, want -2"]);
        let mask = Array::new(&[2], Data::Bool(vec![0, 1]));
        assert_eq!(check(mask.clone(), Array::new(&[2], Data::U8(vec![0, 1]))), [""; 0]);
        assert_eq!(check(mask, Array::new(&[2], Data::U8(vec![0, 3]))).len(), 1);
    }

    #[test]
    fn a_nan_pattern_matches_any_nan() {
        let bits = |v: u16| Array::new(&[1], Data::U16(vec![v]));
        let judge = |got, want| {
            let mut c = case(bits(want));
            c.op = "round_bf16".into();
            let mut values = Values::new();
            values.out("y", bits(got));
            problems(&c, &values.into()).len()
        };
        assert_eq!(judge(0x7fc0, 0xffc1), 0);
        assert_eq!(judge(0x7f80, 0x7fc0), 1);
        assert_eq!(judge(0x7f80, 0xff80), 1);
    }

    #[test]
    fn a_limit_for_one_tensor_overrides_its_type() {
        let limits = case(floats(&[])).limits;
        assert_eq!(limits.of("out.wide", "f32").unwrap().relative, 1.0);
        assert_eq!(limits.of("out.y", "f32").unwrap().relative, 0.1);
        assert_eq!(limits.of("out.y", "f64"), None);
    }

    #[test]
    fn values_follow_how_the_number_is_written() {
        let limit = Limit { relative: 0.1, absolute: 0.0 };
        let judge = |got: Value, want: Value| value(limit, "v", &got, &want).is_none();
        assert!(judge(json!(1.05), json!(1.0)));
        assert!(judge(json!(1), json!(1.0)));
        assert!(!judge(json!(2), json!(1)));
        assert!(!judge(json!(1.05), json!(1)));
        assert!(judge(json!([1.0, null, true]), json!([1.0, null, true])));
        assert!(!judge(json!([1.0]), json!([1.0, 1.0])));
        assert!(judge(json!({"a": 1, "b": 2}), json!({"a": 1})));
        assert!(!judge(json!({"b": 2}), json!({"a": 1})));
        assert!(judge(number(f64::NAN), json!("NaN")));
        assert!(!judge(number(f64::INFINITY), json!("NaN")));
        assert!(!judge(json!(1.0), json!("Infinity")));
    }

    #[test]
    fn errors_count_only_where_they_are_expected() {
        let mut c = case(floats(&[1.0]));
        let refused = || Answer::Refused { why: "no".into(), state: Values::new() };
        assert_eq!(problems(&c, &refused()), ["the call returned an error: no"]);
        c.expects_error = true;
        assert_eq!(problems(&c, &refused()), ["out.y was not produced"]);
        let mut state = Values::new();
        state.out("y", floats(&[1.0]));
        assert_eq!(problems(&c, &Answer::Refused { why: "no".into(), state }), [""; 0]);
        assert_eq!(
            problems(&c, &Answer::Judged(vec![])),
            ["the call should have returned an error"]
        );
    }

    #[test]
    fn arguments_nobody_asked_for_are_known() {
        let args = Args::new(&json!({"dim": -1, "keepdim": true, "none": null})).unwrap();
        assert_eq!(args.to::<isize>("dim").unwrap(), -1);
        assert_eq!(args.maybe::<f64>("none").unwrap(), None);
        assert_eq!(args.unread(), ["keepdim"]);
        assert!(args.to::<usize>("dim").is_err());
        assert!(args.to::<f64>("absent").is_err());
    }
}

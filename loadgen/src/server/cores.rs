//! Lists of cores, as the kernel and the command line write them.

use std::collections::BTreeSet;

/// Parses a list of cores such as `1,4-6`; each may be named once.
///
/// # Errors
///
/// What is wrong with it.
pub fn parse_cores(list: &str) -> Result<Vec<usize>, String> {
    let number = |text: &str| text.trim().parse::<usize>().map_err(|_| format!("{text:?} is no core"));
    let mut cores = Vec::new();
    for item in list.split(',') {
        match item.split_once('-') {
            None => cores.push(number(item)?),
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last)?);
                if first > last || last > 4096 {
                    return Err(format!("{item:?} is no range of cores"));
                }
                cores.extend(first..=last);
            }
        }
    }
    match cores.iter().collect::<BTreeSet<_>>().len() == cores.len() {
        true => Ok(cores),
        false => Err("a core is named twice".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_listed_singly_and_in_ranges() {
        assert_eq!(parse_cores("1,2-3"), Ok(vec![1, 2, 3]));
        for wrong in ["", "a", "3-1", "1,1", "0-2,2", "1-"] {
            assert!(parse_cores(wrong).is_err(), "{wrong}");
        }
    }
}

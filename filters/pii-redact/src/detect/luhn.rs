//! The check digit of payment cards.

/// Whether digits (values, not characters) pass the Luhn check.
pub(crate) fn is_valid(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(index, &digit)| {
            let weighted = u32::from(digit) << (index & 1);
            if weighted > 9 { weighted - 9 } else { weighted }
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wrong_digit_fails_the_check() {
        let mut digits = [4, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1];
        assert!(is_valid(&digits));
        for index in 0..digits.len() {
            digits[index] += 1;
            assert!(!is_valid(&digits), "{index}");
            digits[index] -= 1;
        }
    }
}

//! Measured values of one kind, a list for each contender.

#![forbid(unsafe_code)]

pub struct Series(Vec<Vec<f64>>);

/// One value for each contender; `None` where it took no part or failed.
pub type Cells = Vec<Option<f64>>;

impl Series {
    pub fn new(contenders: usize) -> Series {
        Series(vec![Vec::new(); contenders])
    }

    pub fn push(&mut self, contender: usize, value: f64) {
        self.0[contender].push(value);
    }

    /// 0.5 is the median, 0.9 p90, 1.0 the largest: the nearest rank.
    pub fn quantile(&self, q: f64) -> Cells {
        self.cells(|values| {
            let mut sorted = values.to_vec();
            sorted.sort_by(f64::total_cmp);
            sorted[((q * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len()) - 1]
        })
    }

    pub fn median(&self) -> Cells {
        self.quantile(0.5)
    }

    pub fn sum(&self) -> Cells {
        self.cells(|values| values.iter().sum())
    }

    fn cells(&self, reduce: impl Fn(&[f64]) -> f64) -> Cells {
        self.0.iter().map(|values| (!values.is_empty()).then(|| reduce(values))).collect()
    }
}

/// Every value less that of one contender, which itself has none then.
pub fn over(cells: Cells, floor: usize) -> Cells {
    let under = cells[floor];
    let difference = |(i, value): (usize, Option<f64>)| if i == floor { None } else { Some(value? - under?) };
    cells.into_iter().enumerate().map(difference).collect()
}

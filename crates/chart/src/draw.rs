//! Two panels, one line for each airport: the mean delay by hour of the day, and through the year.

use crate::hours::Curves;
use chrono::{Datelike, Days, NaiveDate};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint};
use plotters::prelude::*;
use std::error::Error;
use std::ops::Range;
use std::path::Path;

/// Pixels.
const SIZE: (u32, u32) = (1080, 820);
const TITLE_HEIGHT: u32 = 62;

const INK: RGBColor = RGBColor(38, 44, 52);
const FAINT: RGBColor = RGBColor(110, 118, 129);
const GRID: RGBColor = RGBColor(228, 231, 235);
/// Okabe and Ito's palette: told apart by colour-blind readers too.
const LINES: [RGBColor; 5] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
];

type Panel<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Writes the chart as SVG to `path`.
pub fn draw(path: &Path, by_hour: &Curves<u32>, by_day: &Curves<NaiveDate>) -> Result<(), Box<dyn Error>> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (title, panels) = root.split_vertically(TITLE_HEIGHT);
    title.draw(&Text::new(
        "How late do flights leave New York?",
        (24, 14),
        ("sans-serif", 25).into_font().style(FontStyle::Bold).color(&INK),
    ))?;
    title.draw(&Text::new(
        "Departures of 2013, by scheduled time; from hourly windows over events that come out of order",
        (24, 45),
        ("sans-serif", 15).into_font().color(&FAINT),
    ))?;
    let (upper, lower) = panels.split_vertically((SIZE.1 - TITLE_HEIGHT) / 2);
    hour_panel(&upper, by_hour)?;
    day_panel(&lower, by_day)?;
    root.present()?;
    Ok(())
}

fn hour_panel(panel: &Panel, curves: &Curves<u32>) -> Result<(), Box<dyn Error>> {
    let (first, last) = ends(curves).unwrap_or((0, 23));
    let mut chart = ChartBuilder::on(panel)
        .caption("Mean delay by hour of the day", ("sans-serif", 18).into_font().color(&INK))
        .margin(14)
        .margin_right(30)
        .x_label_area_size(48)
        .y_label_area_size(64)
        .build_cartesian_2d(f64::from(first) - 0.3..f64::from(last) + 0.3, minutes(curves))?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(FAINT)
        .x_labels((last - first) as usize + 1)
        .x_label_formatter(&|hour| format!("{hour:.0}:00"))
        .y_labels(7)
        .y_label_formatter(&|m| format!("{m:.0}"))
        .x_desc("hour of scheduled departure, New York time")
        .y_desc("minutes")
        .label_style(("sans-serif", 14).into_font().color(&INK))
        .axis_desc_style(("sans-serif", 15).into_font().color(&FAINT))
        .draw()?;
    for ((origin, curve), color) in curves.iter().zip(LINES.iter().cycle()) {
        let points = || curve.iter().map(|(hour, mean)| (f64::from(*hour), *mean));
        let color = *color;
        chart
            .draw_series(LineSeries::new(points(), color.stroke_width(3)))?
            .label(origin)
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 22, y)], color.stroke_width(3)));
        chart.draw_series(points().map(|at| Circle::new(at, 4, color.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .margin(14)
        .legend_area_size(32)
        .border_style(GRID)
        .background_style(WHITE)
        .label_font(("sans-serif", 15).into_font().color(&INK))
        .draw()?;
    Ok(())
}

fn day_panel(panel: &Panel, curves: &Curves<NaiveDate>) -> Result<(), Box<dyn Error>> {
    let Some((first, last)) = ends(curves) else { return Ok(()) };
    let day = |date: NaiveDate| f64::from((date - first).num_days() as i32);
    let mut chart = ChartBuilder::on(panel)
        .caption("Mean delay of the seven days up to each day", ("sans-serif", 18).into_font().color(&INK))
        .margin(14)
        .margin_right(30)
        .x_label_area_size(48)
        .y_label_area_size(64)
        .build_cartesian_2d(
            MonthAxis { days: 0.0..day(last), starts: month_starts(first, last, day) },
            minutes(curves),
        )?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(FAINT)
        .x_label_formatter(&|at| match first.checked_add_days(Days::new(at.max(0.0) as u64)) {
            Some(date) => format!("1 {}", date.format("%b")),
            None => String::new(),
        })
        .y_labels(7)
        .y_label_formatter(&|m| format!("{m:.0}"))
        .x_desc(format!("day of {}", last.year()))
        .y_desc("minutes")
        .label_style(("sans-serif", 14).into_font().color(&INK))
        .axis_desc_style(("sans-serif", 15).into_font().color(&FAINT))
        .draw()?;
    for ((_, curve), color) in curves.iter().zip(LINES.iter().cycle()) {
        chart.draw_series(LineSeries::new(curve.iter().map(|(at, mean)| (day(*at), *mean)), color.stroke_width(2)))?;
    }
    Ok(())
}

/// Days since the first one, with a line and a label at the first day of each month.
struct MonthAxis {
    days: Range<f64>,
    starts: Vec<f64>,
}

impl Ranged for MonthAxis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, day: &f64, pixels: (i32, i32)) -> i32 {
        let share = (day - self.days.start) / (self.days.end - self.days.start).max(1.0);
        pixels.0 + (f64::from(pixels.1 - pixels.0) * share).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.starts.clone()
    }

    fn range(&self) -> Range<f64> {
        self.days.clone()
    }
}

fn month_starts(first: NaiveDate, last: NaiveDate, day: impl Fn(NaiveDate) -> f64) -> Vec<f64> {
    first.iter_days().take_while(|date| *date <= last).filter(|date| date.day() == 1).map(day).collect()
}

/// The first and the last point of all curves.
fn ends<T: Ord + Copy>(curves: &Curves<T>) -> Option<(T, T)> {
    let points = || curves.values().flat_map(|curve| curve.keys().copied());
    Some((points().min()?, points().max()?))
}

/// From zero or below to a little above the highest value, in whole fives.
fn minutes<T>(curves: &Curves<T>) -> Range<f64> {
    let values = || curves.values().flat_map(|curve| curve.values().copied());
    let low = values().fold(0.0, f64::min);
    let high = values().fold(5.0, f64::max);
    (low / 5.0).floor() * 5.0..(high / 5.0 + 0.2).ceil() * 5.0
}

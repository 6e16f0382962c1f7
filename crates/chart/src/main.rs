//! Draws the hourly result of the flights example as an SVG file.
//!
//! ```text
//! millstream-chart examples/flights/out/hourly examples/flights/out/delay.svg
//! ```

mod draw;
mod hours;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, svg] = arguments.as_slice() else {
        eprintln!("usage: millstream-chart FOLDER_OF_HOURLY_RESULT FILE.svg");
        return ExitCode::from(2);
    };
    let drawn = hours::read(Path::new(folder)).and_then(|hours| {
        draw::draw(Path::new(svg), &hours::by_hour_of_day(&hours), &hours::by_week_up_to(&hours))
            .map_err(|e| format!("cannot draw {svg}: {e}"))
    });
    match drawn {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("error: {what}");
            ExitCode::FAILURE
        }
    }
}

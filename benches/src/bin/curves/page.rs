//! One page with a plot for each curve. Both axes are logarithmic: a flat curve is flat, and one
//! that grows with the size has the slope of the diagonal.

use std::error::Error;
use std::fs;
use std::path::Path;

use plotters::prelude::*;

use crate::curve::Curve;

const PLOT: (u32, u32) = (640, 360);

pub(crate) fn write(path: &Path, curves: &[Curve]) -> Result<(), Box<dyn Error>> {
    let mut page = String::from(
        "<!doctype html><meta charset=utf-8><title>What grows with what</title>\
         <style>body { font: 1rem/1.5 system-ui, sans-serif; margin: 2rem } \
         svg { max-width: 100%; height: auto }</style>\
         <h1>What grows with what</h1>\
         <p>CPU time of the loop for one operation. Flat is good.\n",
    );
    for curve in curves {
        page.push_str(&plot(curve)?);
    }
    fs::write(path, page).map_err(|error| format!("{}: {error}", path.display()).into())
}

fn plot(curve: &Curve) -> Result<String, Box<dyn Error>> {
    let mut svg = String::new();
    let sizes = curve.points.iter().map(|&(size, _)| size as f64);
    let costs = curve.points.iter().map(|&(_, cost)| cost);
    let range = |values: &mut dyn Iterator<Item = f64>, room: f64| {
        let (low, high) = values
            .fold((f64::INFINITY, 0_f64), |(low, high), value| (low.min(value), high.max(value)));
        low / room..high * room
    };
    let x = range(&mut sizes.clone(), 1.2);
    let y = range(&mut costs.clone(), 4.0);
    {
        let area = SVGBackend::with_string(&mut svg, PLOT).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(format!("ns {}, by {}", curve.cost, curve.size), ("sans-serif", 17))
            .margin(12)
            .margin_right(48)
            .x_label_area_size(32)
            .y_label_area_size(64)
            .build_cartesian_2d(x.log_scale(), y.log_scale())?;
        let label = |value: &f64| format!("{value:.0}");
        let mut mesh = chart.configure_mesh();
        mesh.x_label_formatter(&label).y_label_formatter(&label).y_labels(6);
        mesh.x_desc(curve.size).light_line_style(WHITE).draw()?;
        let points: Vec<(f64, f64)> = sizes.zip(costs).collect();
        chart.draw_series(LineSeries::new(points.iter().copied(), BLUE.stroke_width(2)))?;
        chart.draw_series(points.iter().map(|&point| Circle::new(point, 3, BLUE.filled())))?;
        area.present()?;
    }
    Ok(svg)
}

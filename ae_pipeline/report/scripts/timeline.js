"use strict";
// Draws each score over time so that one can zoom in; without scripts the still picture stays.
(() => {
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  for (const place of document.querySelectorAll(".timeline")) {
    const source = place.querySelector("script[type='application/json']");
    if (!source) continue;
    const data = JSON.parse(source.textContent);
    const plot = place.querySelector(".plot");
    const spans = (pairs, color, opacity) => pairs.map(([x0, x1]) => ({
      type: "rect", xref: "x", yref: "paper", x0, x1, y0: 0, y1: 1, layer: "below",
      line: {width: 0}, fillcolor: color, opacity,
    }));
    const draw = () => {
      const traces = [{
        type: "scatter", mode: "lines", name: "score", x: data.time, y: data.score,
        line: {color: css("--c1"), width: 1.2}, connectgaps: false,
        hovertemplate: `%{x:.2f} ${data.unit}, score %{y:.3g}<extra></extra>`,
      }, {
        type: "scatter", mode: "markers+text", name: "event", x: data.events.time,
        y: data.events.score, text: data.events.number, textposition: "top center",
        customdata: data.events.hover, hovertemplate: "%{customdata}<extra></extra>",
        marker: {color: css("--flag"), size: 8, symbol: "diamond"}, textfont: {color: css("--ink")},
      }];
      const shapes = [...spans(data.bad, css("--span"), 0.9), ...spans(data.flagged, css("--flag"), 0.2)];
      if (data.threshold !== null) shapes.push({
        type: "line", xref: "paper", x0: 0, x1: 1, y0: data.threshold, y1: data.threshold,
        line: {color: css("--ink"), width: 1, dash: "dash"},
      });
      Plotly.react(plot, traces, {
        paper_bgcolor: css("--paper"), plot_bgcolor: css("--paper"), shapes,
        font: {color: css("--ink"), size: 13}, margin: {l: 55, r: 10, t: 10, b: 45},
        xaxis: {title: {text: `time (${data.unit})`}, gridcolor: css("--grid"), zeroline: false,
                range: [0, data.end]},
        yaxis: {title: {text: "score"}, gridcolor: css("--grid"), zeroline: false,
                fixedrange: true},
        showlegend: false, dragmode: "zoom", hovermode: "closest",
      }, {responsive: true, displaylogo: false, scrollZoom: false,
          modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]]});
    };
    place.querySelector(".moving").hidden = false;
    place.querySelector(".still").classList.add("print-only");
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    draw();
  }
})();

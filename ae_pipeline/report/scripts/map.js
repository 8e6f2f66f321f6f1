"use strict";
// Draws each latent map of the page with plotly.js; without scripts the still picture stays.
(() => {
  const symbols = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x",
                   "star", "triangle-left", "triangle-right"];
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const traces = (data, plane, color) => {
    const [x, y] = plane.points;
    const at = (rows, values) => rows.map((row) => values[row]);
    const marks = (rows, marker, name) => ({
      type: "scatter", mode: "markers", x: at(rows, x), y: at(rows, y), text: at(rows, data.hover),
      hovertemplate: "%{text}<extra></extra>", name, marker: {size: 6, opacity: 0.75, ...marker},
    });
    if (color.values) {
      const [low, high] = color.range;
      const bar = {title: {text: color.name, side: "right"}, thickness: 12, outlinewidth: 0};
      return [marks(color.values.map((_, row) => row), {
        color: color.values, colorscale: "Viridis", cmin: low, cmax: high, showscale: true,
        colorbar: bar,
      }, color.name)];
    }
    return color.groups.map((group, i) => marks(group.rows, group.other
      ? {color: css("--muted"), symbol: "circle", size: 4}
      : {color: css(`--c${i % 8 + 1}`), symbol: symbols[i % symbols.length]}, group.name));
  };

  for (const place of document.querySelectorAll(".map")) {
    const source = place.querySelector("script[type='application/json']");
    if (!source) continue;
    const data = JSON.parse(source.textContent);
    const [which, colored] = place.querySelectorAll("select");
    const plot = place.querySelector(".plot");
    const draw = () => {
      const plane = data.planes[which.selectedIndex];
      const color = data.colors[colored.selectedIndex];
      const axis = (text) => ({
        title: {text}, gridcolor: css("--grid"), zeroline: false, linecolor: css("--muted"),
        showticklabels: plane.ticks,
      });
      Plotly.react(plot, traces(data, plane, color), {
        paper_bgcolor: css("--paper"), plot_bgcolor: css("--paper"),
        font: {color: css("--ink"), size: 13}, margin: {l: 55, r: 10, t: 10, b: 45},
        xaxis: axis(plane.axes[0]), yaxis: {...axis(plane.axes[1]), scaleanchor: "x"},
        legend: {orientation: "h", y: 1.02, yanchor: "bottom"}, hovermode: "closest",
        showlegend: !color.values,
      }, {responsive: true, displaylogo: false,
          modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]]});
      place.querySelector(".says").textContent = plane.says;
    };
    place.querySelector(".moving").hidden = false;
    place.querySelector(".still").classList.add("print-only");
    which.addEventListener("change", draw);
    colored.addEventListener("change", draw);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    draw();
  }
})();

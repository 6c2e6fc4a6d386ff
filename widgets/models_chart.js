// The chart of a ModelExplorer, layers in the order of execution. page.js stands before this text.

// Runs of neighbours as rectangles behind the bars.
function marksOf(layers, accent) {
  const runs = [];
  for (const layer of [...layers].sort((a, b) => a - b)) {
    if (runs.length && runs.at(-1)[1] === layer - 1) runs.at(-1)[1] = layer;
    else runs.push([layer, layer]);
  }
  return runs.slice(0, 200).map(([a, b]) => ({
    type: "rect", xref: "x", yref: "paper", x0: a - 0.5, x1: b + 0.5, y0: 0, y1: 1, layer: "below", fillcolor: accent, opacity: 0.25, line: { width: 1, color: accent },
  }));
}

// The chart of layers. A selection moves over it without drawing its bars again; what draws them later finds it in the spec.
function chartOf(shell, isDark) {
  const view = figureView(shell, isDark);
  const plot = shell.querySelector(".ck-plot");
  let spec;
  let frame = 0;
  return {
    ...view,
    show(next, marked) {
      spec = { ...next, layout: { ...next.layout, shapes: marksOf(marked, "#2563EB") } };
      view.show(spec);
    },
    start(picked) {
      view.start();
      plot.on("plotly_click", ({ points: [point] }) => picked(point.x));
    },
    mark(marked) {
      if (!spec) return;
      spec.layout.shapes = marksOf(marked, "#2563EB");
      cancelAnimationFrame(frame);
      frame = requestAnimationFrame(() => plot.layout && Plotly.relayout(plot, { shapes: isDark() ? ckRecolour(spec.layout.shapes) : spec.layout.shapes }));
    },
    stop() {
      cancelAnimationFrame(frame);
      view.stop();
    },
  };
}

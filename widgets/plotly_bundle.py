"""Plotly in the page once, however many widgets draw with it: no CDN, and 1.5 MB instead of 4.8 MB a figure."""

from __future__ import annotations

import gzip
from importlib import resources

import anywidget
import traitlets

_ESM = """
export async function load(model) {
  const stream = new Blob([model.get("packed")]).stream().pipeThrough(new DecompressionStream("gzip"));
  const bytes = await new Response(stream).arrayBuffer();
  const url = URL.createObjectURL(new Blob([bytes], { type: "text/javascript" }));
  const before = globalThis.Plotly; // another extension's Plotly keeps its name
  await new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = url;
    script.onload = resolve;
    script.onerror = () => reject(new Error("the page's policy keeps Plotly from loading: allow blob: for scripts"));
    document.head.append(script);
  });
  const loaded = globalThis.Plotly;
  if (before) globalThis.Plotly = before;
  URL.revokeObjectURL(url);
  return loaded;
}
export default {
  initialize({ model }) {
    globalThis.codesignPlotly ??= load(model);
  },
};
"""

_shared: list[PlotlyBundle] = []


class PlotlyBundle(anywidget.AnyWidget):
    """Holds Plotly's script and, in the page, loads it; ``globalThis.codesignPlotly`` is a promise of it."""

    _esm = _ESM
    packed = traitlets.Bytes(help="plotly.min.js, gzip").tag(sync=True)

    @classmethod
    def shared(cls) -> PlotlyBundle:
        """The one of this kernel."""
        if not _shared or _shared[0].comm is None:
            script = resources.files("plotly").joinpath("package_data", "plotly.min.js").read_bytes()
            _shared[:] = [cls(packed=gzip.compress(script, 6, mtime=0))]
        return _shared[0]

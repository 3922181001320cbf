"use strict";
(() => {
  const spec = JSON.parse(document.getElementById("spec").textContent);
  const night = matchMedia("(prefers-color-scheme: dark)");
  const touch = matchMedia("(pointer: coarse)").matches;
  const PRINTED_WIDTH = 660; // CSS pixels between the margins of an A4 page
  const state = { printing: false, log: {} };
  const small = matchMedia("(max-width: 40rem)");
  const config = () => ({
    responsive: true,
    displaylogo: false,
    showSendToCloud: false, // nothing leaves the file
    displayModeBar: touch || small.matches ? false : "hover",
    modeBarButtons: [["toImage", "zoomIn2d", "zoomOut2d", "resetScale2d"]],
  });

  // Figures are written in the light palette; in the dark each colour becomes its counterpart.
  const dress = (value, dark) => {
    if (typeof value === "string") return (dark && spec.dark[value]) || value;
    if (Array.isArray(value)) return value.map((one) => dress(one, dark));
    if (value && typeof value === "object" && !ArrayBuffer.isView(value)) {
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, dress(v, dark)]));
    }
    return value;
  };

  const chosen = (plot) => {
    const key = plot.dataset.figure;
    if (key === "prices") return spec.prices[Number(document.getElementById("symbol").value)];
    if (key !== "heatmap") return spec.figures[key];
    const [first, second] = ["first", "second"].map((n) => Number(document.getElementById(n).value));
    const pair = `${Math.min(first, second)}-${Math.max(first, second)}`;
    return spec.heatmaps[pair][document.getElementById("statistic").value];
  };

  const draw = (plot) => {
    const dark = night.matches && !state.printing;
    const made = dress(chosen(plot), dark);
    const layout = { ...made.layout, template: dress(spec.template, dark), autosize: true };
    if (state.printing) Object.assign(layout, { width: PRINTED_WIDTH, autosize: false });
    if (touch) layout.dragmode = false;
    if (state.log[plot.dataset.figure]) layout.yaxis = { ...layout.yaxis, type: "log" };
    return Plotly.react(plot, made.data, layout, config());
  };

  // A figure is drawn when it comes near the screen: all at once would keep the page from answering.
  const NEAR = "600px 0px";
  const plots = [...document.querySelectorAll(".plot")];
  const drawn = new Set();
  // Plotly is text until it is needed: to read its 5 MB takes most of the time of a page.
  const readPlotly = () => {
    if (window.Plotly) return;
    const script = document.createElement("script");
    script.textContent = document.getElementById("plotly").textContent;
    document.head.append(script);
  };
  const drawNow = (plot) => {
    readPlotly();
    if (!drawn.has(plot)) plot.replaceChildren(); // its sketch goes
    drawn.add(plot);
    return draw(plot);
  };
  const redraw = () => drawn.forEach(draw);
  const redrawOne = (key) => plots.filter((p) => p.dataset.figure === key && drawn.has(p)).forEach(draw);
  const watch = new IntersectionObserver((entries) => {
    const near = entries.filter((one) => one.isIntersecting && !drawn.has(one.target));
    for (const one of near) {
      watch.unobserve(one.target);
      drawNow(one.target);
    }
  }, { rootMargin: NEAR });
  const loaded = () => {
    readPlotly();
    // What is on the screen comes first, and the others only once it is there to be read.
    const seen = plots.filter((plot) => plot.getBoundingClientRect().top < innerHeight);
    Promise.all(seen.map(drawNow)).then(() => {
      document.documentElement.dataset.drawn = "yes";
      for (const plot of plots) if (!drawn.has(plot)) watch.observe(plot);
    });
  };
  // Not before the text and the sketch of the first figure are on the screen.
  requestAnimationFrame(() => setTimeout(loaded));

  for (const query of [night, small]) query.addEventListener("change", redraw);
  const print = (now) => {
    if (state.printing === now) return;
    state.printing = now;
    if (now) plots.forEach(drawNow); else redraw();
  };
  matchMedia("print").addEventListener("change", (event) => print(event.matches));
  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));

  for (const box of document.querySelectorAll("[data-log]")) {
    box.addEventListener("change", () => {
      state.log[box.dataset.log] = box.checked;
      redrawOne(box.dataset.log);
    });
  }

  const selects = ["first", "second"].map((name) => document.getElementById(name));
  let before = selects.map((one) => one && one.value);
  const chosenPair = (event) => {
    const [first, second] = selects;
    // The same parameter twice: the other one takes what this one had.
    if (first.value === second.value) {
      if (event.target === first) second.value = before[0]; else first.value = before[1];
    }
    before = selects.map((one) => one.value);
    redrawOne("heatmap");
  };
  for (const one of [...selects, document.getElementById("statistic")]) {
    if (one) one.addEventListener("change", chosenPair);
  }
  const symbol = document.getElementById("symbol");
  if (symbol) symbol.addEventListener("change", () => redrawOne("prices"));

  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    const value = (row, at) => {
      const cell = row.cells[at];
      return "v" in cell.dataset ? Number(cell.dataset.v) : cell.textContent;
    };
    heads.forEach((head, at) => head.querySelector("button").addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((one) => one.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [value(a, at), value(b, at)];
        return (x < y ? -1 : x > y ? 1 : 0) * (up ? 1 : -1);
      });
      body.append(...rows);
    }));
  }

  const filter = document.getElementById("filter");
  if (filter) {
    const rows = [...document.querySelectorAll("#trades-table tbody tr")];
    const count = document.getElementById("filter-count");
    filter.addEventListener("input", () => {
      const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        shown += !row.hidden;
      }
      count.textContent = `${shown.toLocaleString("en")} of ${rows.length.toLocaleString("en")} shown`;
    });
  }
})();

// One Plotly chart that keeps its node, zoom and box while data, size or theme change.
// data: {figure, alt, name, revision, select, box, source, bundle, templates}; sent back: box = {x0,x1,y0,y1} or null.
const charts = new WeakMap();

function script(url) {
  return new Promise((resolve, reject) => {
    const tag = document.createElement("script");
    tag.src = url;
    tag.onload = resolve;
    tag.onerror = () => reject(new Error(url));
    document.head.appendChild(tag);
  });
}

function plotly(data) {
  if (!window.labPlotly) {
    const at = (path) => new URL(path, document.baseURI).href;
    window.labPlotly = script(at(data.source))
      .then(() => window.Plotly)
      .catch(() => import(at(data.bundle)).then(() => window.Plotly))
      .then((found) => found || Promise.reject(new Error("plotly.js did not load")));
    window.labPlotly.catch(() => { window.labPlotly = undefined; });
  }
  return window.labPlotly;
}

function dark(node) {
  const probe = document.createElement("span");
  probe.style.color = "var(--st-background-color)";
  node.appendChild(probe);
  const [r, g, b] = (getComputedStyle(probe).color.match(/[\d.]+/g) || [255, 255, 255]).map(Number);
  probe.remove();
  return 0.299 * r + 0.587 * g + 0.114 * b < 128;
}

function themed(chart, night) {
  const data = chart.data;
  const figure = JSON.parse(data.figure);
  figure.layout = figure.layout || {};
  figure.layout.template = data.templates[night ? "dark" : "light"];
  figure.layout.uirevision = data.revision;
  figure.layout.autosize = true;
  delete figure.layout.width;
  if (data.select) {
    if (chart.revision !== data.revision) chart.box = data.box || null;
    // Given anew with every figure: plotly forgets a box the visitor drew when the figure below it changes.
    figure.layout.selections = chart.box ? [{ type: "rect", xref: "x", yref: "y", ...chart.box }] : [];
    figure.layout.dragmode = figure.layout.dragmode || "select";
  }
  chart.revision = data.revision;
  return figure;
}

function config(chart) {
  const saver = (format) => ({
    name: `Download as ${format.toUpperCase()}`,
    icon: format === "png" ? chart.Plotly.Icons.camera : chart.Plotly.Icons.disk,
    click: (gd) => chart.Plotly.downloadImage(gd, { format, scale: format === "png" ? 3 : 1, filename: chart.data.name }),
  });
  return {
    displaylogo: false,
    showSendToCloud: false,
    modeBarButtonsToRemove: chart.data.select ? ["toImage", "lasso2d"] : ["toImage", "select2d", "lasso2d"],
    modeBarButtonsToAdd: [saver("png"), saver("svg")],
  };
}

function listen(chart) {
  const send = (range) => {
    const box = range && range.x && range.y
      ? { x0: Math.min(...range.x), x1: Math.max(...range.x), y0: Math.min(...range.y), y1: Math.max(...range.y) }
      : null;
    if (JSON.stringify(box) === JSON.stringify(chart.box)) return;
    chart.box = box;
    chart.setStateValue("box", box);
  };
  chart.host.on("plotly_selected", (event) => { if (event && event.range) send(event.range); });
  chart.host.on("plotly_deselect", () => send(null));
}

async function draw(chart) {
  const data = chart.data;
  const night = dark(chart.host.parentElement);
  const state = `${night}|${data.revision}|${data.figure}`;
  if (chart.state === state || !chart.host.clientWidth) return;
  chart.state = state;
  try {
    chart.Plotly = await plotly(data);
    const figure = themed(chart, night);
    chart.host.style.height = `${figure.layout.height || 420}px`;
    // Made once: plotly compares the settings, and new button functions would make it start over and drop the zoom.
    chart.config = chart.config || config(chart);
    await chart.Plotly.react(chart.host, figure.data, figure.layout, chart.config);
    if (data.select && !chart.listening) { chart.listening = true; listen(chart); }
    chart.host.dataset.ready = "yes";
    chart.host.dataset.draws = String(Number(chart.host.dataset.draws || 0) + 1);
  } catch (error) {
    chart.state = undefined;
    chart.host.textContent = `This chart could not be drawn in the browser (${error.message}); the table below holds its data.`;
  }
}

function start(parent) {
  const host = document.createElement("div");
  host.className = "lab-chart";
  parent.appendChild(host);
  const chart = { host };
  const wake = () => draw(chart);
  chart.size = new ResizeObserver(() => (chart.state ? chart.Plotly && chart.Plotly.Plots.resize(host) : wake()));
  chart.size.observe(host);
  // A change of theme arrives only as new CSS variables, without a call to this module.
  chart.theme = setInterval(() => { if (host.isConnected && chart.state) wake(); }, 700);
  charts.set(parent, chart);
  return chart;
}

export default function (component) {
  const { data, parentElement, setStateValue } = component;
  const chart = charts.get(parentElement) || start(parentElement);
  chart.data = data;
  chart.setStateValue = setStateValue;
  chart.host.setAttribute("role", "figure");
  chart.host.setAttribute("aria-label", data.alt);
  draw(chart);
  return () => {
    clearInterval(chart.theme);
    chart.size.disconnect();
    if (chart.Plotly) chart.Plotly.purge(chart.host);
    chart.host.remove();
    charts.delete(parentElement);
  };
}

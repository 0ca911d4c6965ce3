(() => {
  "use strict";
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const coloured = (value) => {
    if (typeof value === "string") return value.startsWith("--") ? css(value) : value;
    if (Array.isArray(value)) return value.map(coloured);
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, coloured(inner)]));
    }
    return value;
  };
  const look = (layout) => {
    const axis = { gridcolor: css("--rule"), linecolor: css("--soft"), zerolinecolor: css("--rule") };
    const whole = coloured(layout);
    for (const key of Object.keys(whole)) if (/^[xy]axis\d*$/.test(key)) whole[key] = { ...axis, ...whole[key] };
    return {
      ...whole,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest",
      font: { color: css("--ink"), family: getComputedStyle(document.body).fontFamily, size: 12 },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: css("--soft"), activecolor: css("--ink") },
      hoverlabel: { bgcolor: css("--wash"), font: { color: css("--ink") }, bordercolor: css("--rule") },
    };
  };
  const draw = () => {
    for (const place of document.querySelectorAll(".chart")) {
      const chart = charts[place.dataset.chart];
      place.hidden = false;
      Plotly.react(place, coloured(chart.data), look(chart.layout), { responsive: true, displaylogo: false });
      place.classList.add("drawn");
    }
  };
  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();

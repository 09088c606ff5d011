"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);

  const config = {
    displaylogo: false,
    responsive: true,
    // The page talks to nobody.
    showSendToCloud: false,
    plotlyServerURL: "",
    modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"],
  };
  for (const [id, figure] of Object.entries(data.figures)) {
    Plotly.newPlot(id, figure.data, figure.layout, config);
  }

  const shown = (value) => Number(value.toPrecision(6)).toString();

  // The first of equally good policies, as in every table of the suite.
  const best = (points, weights) => {
    let chosen = 0;
    let utility = -Infinity;
    points.forEach((point, policy) => {
      const sum = point.reduce((total, value, axis) => total + value * weights[axis], 0);
      if (sum > utility) [chosen, utility] = [policy, sum];
    });
    return [chosen, utility];
  };

  const normalised = (parts) => {
    const total = parts.reduce((sum, part) => sum + part, 0);
    return parts.map((part) => (total > 0 ? part / total : 1 / parts.length));
  };

  // One slider goes from the first objective to the second; several are shares.
  const weightsOf = (sliders) => {
    const parts = sliders.map((slider) => Number(slider.value));
    return parts.length === 1 ? [1 - parts[0] / 100, parts[0] / 100] : normalised(parts);
  };

  const mark = (figure, point) => {
    const drawn = document.getElementById(figure);
    const trace = drawn.data.findIndex((each) => each.name === data.chosen);
    if (trace < 0) return;
    const place = { x: [[point[0]]], y: [[point[1]]] };
    if (point.length > 2) place.z = [[point[2]]];
    Plotly.restyle(drawn, place, [trace]);
  };

  const setUp = (explorer) => {
    const { runs, figure } = data.explorers[explorer.dataset.key];
    const select = explorer.querySelector("select");
    const sliders = [...explorer.querySelectorAll("input")];
    const rows = [...explorer.querySelectorAll("tbody tr")];
    const show = () => {
      const run = runs[Number(select.value)];
      const weights = weightsOf(sliders);
      const [policy, utility] = best(run.points, weights);
      explorer.querySelector(".choice").textContent =
        `Policy ${policy} of ${run.points.length}: utility ${shown(utility)}`;
      rows.forEach((row, axis) => {
        const values = run.points.map((point) => point[axis]);
        const low = Math.min(...values);
        const extent = Math.max(...values) - low;
        const value = run.points[policy][axis];
        const cells = row.querySelectorAll("td");
        cells[0].textContent = `${(100 * weights[axis]).toFixed(0)} %`;
        cells[1].textContent = `${shown(value)} ± ${Number(run.errors[policy][axis].toPrecision(2))}`;
        cells[2].textContent = shown(run.undiscounted[policy][axis]);
        const share = extent > 0 ? (value - low) / extent : 1;
        row.querySelector(".bar > span").style.width = `${(100 * share).toFixed(1)}%`;
      });
      sliders.forEach((slider, axis) => {
        const percent = weights.length === 2 ? weights[1] : weights[axis];
        slider.setAttribute("aria-valuetext", `${(100 * percent).toFixed(0)} percent`);
      });
      mark(figure, run.points[policy]);
    };
    sliders.forEach((slider) => slider.addEventListener("input", show));
    select.addEventListener("change", show);
    show();
  };

  document.querySelectorAll(".explorer").forEach(setUp);
})();

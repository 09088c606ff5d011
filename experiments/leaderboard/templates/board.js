"use strict";
(() => {
  const shown = (value) => Number(value.toPrecision(6)).toLocaleString("en-US", { maximumSignificantDigits: 6 });
  const SVG = "http://www.w3.org/2000/svg";
  const draw = (parent, name, attributes, text) => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
  };
  const make = (parent, name, text, css) => {
    const element = document.createElement(name);
    if (text !== undefined) element.textContent = text;
    if (css) element.className = css;
    parent.append(element);
    return element;
  };

  // Tables: a click on a heading sorts, words of the search field filter.

  const valueOf = (row, column) => {
    const cell = row.cells[column];
    const value = cell.dataset.value ?? cell.textContent.trim();
    const number = value === "" ? NaN : Number(value);
    return Number.isNaN(number) ? value : number;
  };

  // Empty cells come last, whatever the direction.
  const compare = (one, two, sign) => {
    if (one === "" || two === "") return (one === "") - (two === "");
    if (typeof one === "number" && typeof two === "number") return sign * (one - two);
    return sign * (String(one) < String(two) ? -1 : String(one) > String(two) ? 1 : 0);
  };

  const sortBy = (table, column) => {
    const heads = [...table.tHead.rows[0].cells];
    const next = heads[column].getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    heads[column].setAttribute("aria-sort", next);
    const sign = next === "ascending" ? 1 : -1;
    const rows = [...table.tBodies[0].rows];
    rows.sort((one, two) => compare(valueOf(one, column), valueOf(two, column), sign));
    table.tBodies[0].append(...rows);
  };

  document.querySelectorAll("table.sortable").forEach((table) => {
    table.querySelectorAll("button.sort").forEach((button, column) => {
      button.addEventListener("click", () => sortBy(table, column));
    });
  });

  document.querySelectorAll("input[data-table]").forEach((input) => {
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/);
      const table = document.getElementById(input.dataset.table);
      for (const row of table.tBodies[0].rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
      }
    });
  });

  // Fronts: a plane, a space, parallel axes and a table of the same policies. Limits of the
  // objectives are set by dragging in a view or by sliders, and hold in all views.

  const STEPS = 1000;
  const SHOWN_IN_TABLE = 50;

  class Explorer {
    constructor(root) {
      this.root = root;
      this.data = JSON.parse(root.querySelector('script[type="application/json"]').textContent);
      this.count = this.data.objectives.length;
      this.find = (css) => root.querySelector(css);
      this.hiddenRows = new Set();
      this.turn = { yaw: 0.7, pitch: 0.45 };
      this.marked = null;
      this.measure();
      this.limits = this.low.map(() => [0, STEPS]);
      this.setUpSeries();
      this.setUpPickers();
      this.setUpBrushes();
      this.setUpPlane();
      this.setUpParallel();
      this.setUpSpace();
      this.setUpChooser();
      this.show();
    }

    measure() {
      const all = [...this.data.known, ...this.data.series.flatMap((series) => series.points)];
      const axes = this.data.objectives.map((_, axis) => all.map((point) => point[axis]));
      this.low = axes.map((values) => values.reduce((a, b) => Math.min(a, b)));
      this.high = axes.map((values) => values.reduce((a, b) => Math.max(a, b)));
    }

    share(point, axis) {
      const extent = this.high[axis] - this.low[axis];
      return extent > 0 ? (point[axis] - this.low[axis]) / extent : 0.5;
    }

    valueAt(axis, step) {
      return this.low[axis] + ((this.high[axis] - this.low[axis]) * step) / STEPS;
    }

    visible() {
      const which = this.find(".seeds");
      const all = which && which.value === "all";
      return this.data.series.filter((series) => (all || series.typical) && !this.hiddenRows.has(series.name));
    }

    inside(point) {
      return this.limits.every(([low, high], axis) => {
        const place = this.share(point, axis) * STEPS;
        return place >= low - 1e-6 && place <= high + 1e-6;
      });
    }

    setUpSeries() {
      const box = this.find(".series");
      const rows = new Map(this.data.series.map((series) => [series.name, series.colour]));
      box.hidden = rows.size < 2;
      for (const [name, colour] of rows) {
        const label = make(box, "label");
        const tick = make(label, "input");
        tick.type = "checkbox";
        tick.checked = true;
        make(label, "span", undefined, `swatch ${colour}`);
        label.append(name);
        tick.addEventListener("change", () => {
          this.hiddenRows[tick.checked ? "delete" : "add"](name);
          this.show();
        });
      }
      this.find(".seeds")?.addEventListener("change", () => this.show());
      this.find(".reset").addEventListener("click", () => {
        this.limits = this.limits.map(() => [0, STEPS]);
        this.show();
      });
    }

    setUpPickers() {
      this.across = this.find(".across");
      this.up = this.find(".up");
      if (!this.across) return;
      this.up.value = "1";
      for (const select of [this.across, this.up]) select.addEventListener("change", () => this.show());
      if (this.count === 2) for (const select of [this.across, this.up]) select.parentElement.hidden = true;
    }

    setUpBrushes() {
      const box = this.find(".brushes > div");
      this.ranges = this.data.objectives.map((title, axis) =>
        ["at least", "at most"].map((word, end) => {
          const label = make(box, "label", `${title} ${word} `);
          const output = make(label, "output");
          const range = make(label, "input");
          Object.assign(range, { type: "range", min: 0, max: STEPS });
          range.addEventListener("input", () => {
            this.limits[axis][end] = Number(range.value);
            this.show();
          });
          return { range, output };
        }),
      );
    }

    axes() {
      return this.across ? [Number(this.across.value), Number(this.up.value)] : [0, 0];
    }

    // The plane

    setUpPlane() {
      this.plane = this.find(".plane");
      this.drag(this.plane, [0, 480, 360], (from, to) => {
        const [across, up] = this.axes();
        const x = [from[0], to[0]].map((value) => (STEPS * (value - 60)) / 400).sort((a, b) => a - b);
        const y = [from[1], to[1]].map((value) => (STEPS * (310 - value)) / 290).sort((a, b) => a - b);
        this.limit(across, x);
        if (up !== across) this.limit(up, y);
        this.show();
      });
    }

    limit(axis, [low, high]) {
      const clip = (value) => Math.min(Math.max(value, 0), STEPS);
      this.limits[axis] = [clip(low), clip(high)];
    }

    // A drag from one place to another, in units of the view box; a click without one is nothing.
    drag(svg, [top, width, height], done) {
      let start = null;
      let box = null;
      const place = (event) => {
        const frame = svg.getBoundingClientRect();
        return [((event.clientX - frame.left) * width) / frame.width, top + ((event.clientY - frame.top) * height) / frame.height];
      };
      svg.addEventListener("pointerdown", (event) => {
        start = place(event);
        svg.setPointerCapture(event.pointerId);
        box = draw(svg, "rect", { class: "brush" });
      });
      svg.addEventListener("pointermove", (event) => {
        if (!start) return;
        const now = place(event);
        const corner = [0, 1].map((axis) => Math.min(start[axis], now[axis]));
        box.setAttribute("x", corner[0]);
        box.setAttribute("y", corner[1]);
        box.setAttribute("width", Math.abs(now[0] - start[0]));
        box.setAttribute("height", Math.abs(now[1] - start[1]));
      });
      const stop = (event) => {
        if (!start) return;
        const [from, to] = [start, place(event)];
        start = null;
        box.remove();
        if (event.type === "pointerup" && Math.hypot(to[0] - from[0], to[1] - from[1]) > 6) done(from, to);
      };
      svg.addEventListener("pointerup", stop);
      svg.addEventListener("pointercancel", stop);
    }

    showPlane(series) {
      const svg = this.plane;
      svg.replaceChildren();
      const [across, up] = this.axes();
      const x = (point) => 60 + 400 * this.share(point, across);
      const y = (point) => 310 - 290 * this.share(point, up);
      draw(svg, "path", { class: "axis", d: "M60 14V310H470" });
      for (const step of [0, 500, 1000]) {
        const anchor = step === 1000 ? "end" : "middle";
        draw(svg, "text", { class: "tick", x: 60 + 0.4 * step, y: 326, "text-anchor": anchor }, shown(this.valueAt(across, step)));
        if (this.across) {
          draw(svg, "text", { class: "tick", x: 55, y: 314 - 0.29 * step, "text-anchor": "end" }, short(this.valueAt(up, step)));
        }
      }
      draw(svg, "text", { class: "title", x: 260, y: 348, "text-anchor": "middle" }, this.data.objectives[across]);
      if (this.across) draw(svg, "text", { class: "title", x: 66, y: 12 }, this.data.objectives[up]);
      for (const point of this.data.known) draw(svg, "circle", { class: "known", cx: x(point), cy: y(point), r: 4.5 });
      for (const each of series) {
        each.points.forEach((point, policy) => {
          const css = `point ${each.colour}${this.inside(point) ? "" : " out"}`;
          const dot = draw(svg, "circle", { class: css, cx: x(point), cy: y(point), r: 3.6 });
          draw(dot, "title", {}, `${each.name} seed ${each.seed}, policy ${policy}: ${point.map(shown).join(", ")}`);
        });
      }
      if (this.marked) draw(svg, "circle", { class: "ring", cx: x(this.marked), cy: y(this.marked), r: 8 });
      svg.setAttribute("role", "img");
      const axes = this.across ? `${this.data.objectives[up]} against ${this.data.objectives[across]}` : this.data.objectives[0];
      svg.setAttribute("aria-label", `Fronts: ${axes}`);
    }

    // Parallel axes

    setUpParallel() {
      this.parallel = this.find(".parallel");
      // On a phone the drawing is narrower, so that its text is not smaller.
      this.width = Math.min(Math.max(this.parallel.clientWidth || 960, 380), 960);
      this.place = (axis) => (this.count > 1 ? 46 + ((this.width - 112) * axis) / (this.count - 1) : this.width / 2);
      // Titles of neighbours stand at different heights where they would meet.
      this.storeys = Math.min(Math.ceil(130 / (this.width / this.count)), 4);
      this.top = 16 * this.storeys + 12;
      this.parallel.setAttribute("viewBox", `0 ${28 - this.top} ${this.width} ${272 + this.top}`);
      this.drag(this.parallel, [28 - this.top, this.width, 272 + this.top], (from, to) => {
        const distances = this.data.objectives.map((_, axis) => Math.abs(this.place(axis) - from[0]));
        const axis = distances.indexOf(Math.min(...distances));
        const ends = [from[1], to[1]].map((value) => (STEPS * (260 - value)) / 220).sort((a, b) => a - b);
        this.limit(axis, ends);
        this.show();
      });
    }

    showParallel(series) {
      const svg = this.parallel;
      svg.replaceChildren();
      const way = (point) => point.map((_, axis) => `${this.place(axis)} ${(260 - 220 * this.share(point, axis)).toFixed(1)}`).join("L");
      for (const each of series) {
        for (const point of each.points) {
          const css = `way ${each.colour}${this.inside(point) ? "" : " out"}`;
          draw(svg, "path", { class: css, d: `M${way(point)}` });
        }
      }
      if (this.marked) draw(svg, "path", { class: "way marked", d: `M${way(this.marked)}` });
      this.data.objectives.forEach((title, axis) => {
        const x = this.place(axis);
        const anchor = axis === 0 && this.count > 1 ? "start" : axis === this.count - 1 && this.count > 1 ? "end" : "middle";
        const edge = { start: 2, end: this.width - 2, middle: x }[anchor];
        draw(svg, "path", { class: "axis", d: `M${x} 40V260` });
        draw(svg, "text", { class: "title", x: edge, y: 28 - 16 * (axis % this.storeys), "text-anchor": anchor }, title);
        draw(svg, "text", { class: "tick", x, y: 276, "text-anchor": "middle" }, short(this.low[axis]));
        draw(svg, "text", { class: "tick", x: x + 5, y: 46 }, short(this.high[axis]));
        const [low, high] = this.limits[axis];
        if (low > 0 || high < STEPS) {
          draw(svg, "rect", { class: "brush", x: x - 9, y: 260 - 0.22 * high, width: 18, height: Math.max(0.22 * (high - low), 2) });
        }
      });
      svg.setAttribute("role", "img");
      svg.setAttribute("aria-label", "Fronts on parallel axes, one line a policy");
    }

    // Space: a drag or the arrow keys turn it

    setUpSpace() {
      this.space = this.find(".space");
      if (this.count < 3) {
        this.find(".space-figure").hidden = true;
        return;
      }
      let last = null;
      this.space.addEventListener("pointerdown", (event) => {
        last = [event.clientX, event.clientY];
        this.space.setPointerCapture(event.pointerId);
      });
      this.space.addEventListener("pointermove", (event) => {
        if (!last) return;
        this.rotate((event.clientX - last[0]) / 120, (event.clientY - last[1]) / 120);
        last = [event.clientX, event.clientY];
      });
      for (const name of ["pointerup", "pointercancel"]) this.space.addEventListener(name, () => (last = null));
      const keys = { ArrowLeft: [-0.12, 0], ArrowRight: [0.12, 0], ArrowUp: [0, -0.12], ArrowDown: [0, 0.12] };
      this.space.addEventListener("keydown", (event) => {
        if (!(event.key in keys)) return;
        event.preventDefault();
        this.rotate(...keys[event.key]);
      });
    }

    rotate(yaw, pitch) {
      this.turn.yaw += yaw;
      this.turn.pitch = Math.min(Math.max(this.turn.pitch + pitch, -1.4), 1.4);
      this.showSpace(this.visible());
    }

    // Axes of the space: the two of the plane, and the first of the others.
    spaceAxes() {
      const [across, up] = this.axes();
      const deep = this.data.objectives.findIndex((_, axis) => axis !== across && axis !== up);
      return [across, up, deep];
    }

    project(place) {
      const [x, y, z] = place.map((value) => value - 0.5);
      const { yaw, pitch } = this.turn;
      const turned = [x * Math.cos(yaw) - z * Math.sin(yaw), x * Math.sin(yaw) + z * Math.cos(yaw)];
      const height = y * Math.cos(pitch) - turned[1] * Math.sin(pitch);
      const depth = y * Math.sin(pitch) + turned[1] * Math.cos(pitch);
      const scale = 410 / (1 + 0.25 * depth);
      return [480 + scale * turned[0], 360 - scale * height, depth];
    }

    showSpace(series) {
      if (this.count < 3) return;
      const pen = this.space.getContext("2d");
      const axes = this.spaceAxes();
      const place = (point) => axes.map((axis) => this.share(point, axis));
      pen.clearRect(0, 0, 960, 720);
      this.frame(pen, axes);
      const dots = this.data.known.map((point) => ({ at: this.project(place(point)), colour: null, out: false }));
      for (const each of series) {
        const colour = getComputedStyle(this.swatch(each.colour)).getPropertyValue("--c");
        for (const point of each.points) dots.push({ at: this.project(place(point)), colour, out: !this.inside(point) });
      }
      dots.sort((one, two) => two.at[2] - one.at[2]);
      for (const dot of dots) {
        pen.globalAlpha = dot.out ? 0.12 : 1;
        this.disc(pen, dot.at, dot.colour ? 8 : 9, dot.colour);
      }
      pen.globalAlpha = 1;
      if (this.marked) this.disc(pen, this.project(place(this.marked)), 16, null, "#1c2430", 5);
    }

    swatch(colour) {
      this.probe ??= make(this.root, "span");
      this.probe.className = colour;
      return this.probe;
    }

    disc(pen, [x, y], radius, fill, line = "#767676", width = 2) {
      pen.beginPath();
      pen.arc(x, y, radius, 0, 2 * Math.PI);
      if (fill) {
        pen.fillStyle = fill;
        pen.fill();
      } else {
        pen.strokeStyle = line;
        pen.lineWidth = width;
        pen.stroke();
      }
    }

    frame(pen, axes) {
      pen.strokeStyle = "#c4cad2";
      pen.lineWidth = 2;
      pen.fillStyle = "#5b6675";
      pen.font = "24px system-ui, sans-serif";
      pen.textAlign = "center";
      const corner = (x, y, z) => this.project([x, y, z]);
      const edges = [];
      for (const a of [0, 1]) for (const b of [0, 1]) edges.push([[0, a, b], [1, a, b]], [[a, 0, b], [a, 1, b]], [[a, b, 0], [a, b, 1]]);
      for (const [from, to] of edges) {
        pen.beginPath();
        pen.moveTo(...corner(...from).slice(0, 2));
        pen.lineTo(...corner(...to).slice(0, 2));
        pen.stroke();
      }
      const middles = [[0.5, -0.1, 0], [-0.1, 0.5, 0], [0, -0.1, 0.5]];
      axes.forEach((axis, index) => {
        const [x, y] = corner(...middles[index]);
        const half = pen.measureText(this.data.objectives[axis]).width / 2;
        pen.fillText(this.data.objectives[axis], Math.min(Math.max(x, half + 6), 954 - half), Math.min(Math.max(y, 26), 706));
      });
    }

    // The policies within the limits

    showTable(series) {
      const table = this.find(".picked");
      const rows = series.flatMap((each) => each.points.map((point, policy) => ({ each, point, policy }))).filter(({ point }) => this.inside(point));
      const total = series.reduce((sum, each) => sum + each.points.length, 0);
      const limited = this.limits.some(([low, high]) => low > 0 || high < STEPS);
      this.find(".count").textContent = `${rows.length} of ${total} policies within the limits`;
      table.replaceChildren();
      if (!limited) return;
      const head = make(make(table, "thead"), "tr");
      for (const title of ["row", "seed", "policy", ...this.data.objectives]) make(head, "th", title);
      const body = make(table, "tbody");
      for (const { each, point, policy } of rows.slice(0, SHOWN_IN_TABLE)) {
        const line = make(body, "tr");
        make(line, "td", each.name);
        make(line, "td", each.seed, "number");
        const cell = make(line, "td", undefined, "number");
        if (each.page) make(cell, "a", policy).href = each.page;
        else cell.textContent = policy;
        for (const value of point) make(line, "td", shown(value), "number");
      }
    }

    // The policy that a preference chooses, on the page of a run

    setUpChooser() {
      const box = this.find(".chooser");
      if (!box) return;
      this.sliders = [...box.querySelectorAll(".sliders input")];
      for (const slider of this.sliders) slider.addEventListener("input", () => this.show());
    }

    weights() {
      const parts = this.sliders.map((slider) => Number(slider.value));
      if (parts.length === 0) return [1];
      if (parts.length === 1) return [1 - parts[0] / 100, parts[0] / 100];
      const total = parts.reduce((sum, part) => sum + part, 0);
      return parts.map((part) => (total > 0 ? part / total : 1 / parts.length));
    }

    choose() {
      if (!this.sliders) return;
      const run = this.data.series[0];
      const weights = this.weights();
      const utility = (point) => point.reduce((sum, value, axis) => sum + value * weights[axis], 0);
      let chosen = 0; // the first of equally good ones
      run.points.forEach((point, policy) => {
        if (utility(point) > utility(run.points[chosen])) chosen = policy;
      });
      this.marked = run.points[chosen];
      this.find(".policy").textContent = `Policy ${chosen} of ${run.points.length}: utility ${shown(utility(this.marked))}`;
      this.root.querySelectorAll(".chosen tbody tr").forEach((row, axis) => {
        const values = run.points.map((point) => point[axis]);
        const low = Math.min(...values);
        const extent = Math.max(...values) - low;
        const cells = row.querySelectorAll("td");
        cells[0].textContent = `${(100 * weights[axis]).toFixed(0)} %`;
        cells[1].textContent = `${shown(this.marked[axis])} ± ${Number(run.errors[chosen][axis].toPrecision(2))}`;
        cells[2].textContent = shown(run.undiscounted[chosen][axis]);
        row.querySelector("progress").value = extent > 0 ? (this.marked[axis] - low) / extent : 1;
      });
      this.sliders.forEach((slider, axis) => {
        const share = weights[this.sliders.length === 1 ? 1 : axis];
        slider.setAttribute("aria-valuetext", `${(100 * share).toFixed(0)} percent`);
      });
    }

    show() {
      this.choose();
      const series = this.visible();
      this.ranges.forEach((ends, axis) =>
        ends.forEach(({ range, output }, end) => {
          range.value = this.limits[axis][end];
          output.textContent = shown(this.valueAt(axis, this.limits[axis][end]));
        }),
      );
      this.showPlane(series);
      this.showParallel(series);
      this.showSpace(series);
      this.showTable(series);
    }
  }

  const short = (value) => (Math.abs(value) >= 1e5 || (value !== 0 && Math.abs(value) < 1e-3) ? value.toExponential(1) : Number(value.toPrecision(4)).toString());

  document.querySelectorAll(".explorer").forEach((root) => new Explorer(root));
  document.documentElement.dataset.ready = "yes";
})();

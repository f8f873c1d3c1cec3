// The page of a run. It asks the worker that it came from, and nobody else; all text goes in as text.
const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const STANDS_STILL_S = 5;
let job = null, before = null, last = null;
const moved = new Map(); // "task/split" -> {taken, since}

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.map((child) => (child instanceof Node ? child : document.createTextNode(String(child)))));
  return made;
}
function drawn(name, attributes = {}, text = null) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== null) made.textContent = text;
  return made;
}
const number = (value) => (value === null || value === undefined ? "–" : Math.round(value).toLocaleString("en"));
const rate = (value) => (value === null ? "–" : `${number(value)}/s`);
const bytes = (value) => {
  if (value === null || value === undefined) return "–";
  for (const unit of ["B", "KiB", "MiB", "GiB"]) { if (value < 1024 || unit === "GiB") return `${value.toFixed(value < 10 && unit !== "B" ? 1 : 0)} ${unit}`; value /= 1024; }
};
const clock = (at) => new Date(at).toISOString().slice(11, 19);
const share = (value) => (value === null ? "–" : `${Math.round(100 * value)} %`);
function lag(at, now) {
  if (at === null || at === undefined) return "–";
  if (at === "end") return "ended";
  const seconds = (now - at) / 1000;
  return Math.abs(seconds) < 120 ? `${seconds.toFixed(1)} s` : Math.abs(seconds) < 172800 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 86400)} d`;
}

// A table is made anew only where it has changed: what is selected or read aloud stays.
function table(id, head, rows) {
  const place = $(id), text = JSON.stringify([head, rows]);
  if (place.dataset.was === text) return;
  place.dataset.was = text;
  const caption = place.querySelector("caption");
  const cell = (kind) => (one) => {
    const [shown, css] = Array.isArray(one) ? one : [one, ""];
    return element(kind, { ...(css && { class: css }), ...(kind === "th" && { scope: "col" }) }, shown ?? "");
  };
  place.replaceChildren(
    ...(caption ? [caption] : []),
    element("thead", {}, element("tr", {}, ...head.map(cell("th")))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map(cell("td"))))),
  );
}

const spent = (now) => (before ? (now.at_ms - before.at_ms) / 1000 : 0);
function tasksBefore() { return new Map((before?.metrics.tasks ?? []).map((task) => [task.id, task])); }
function perSecond(value, was, seconds) { return seconds > 0 && was !== undefined && value >= was ? (value - was) / seconds : null; }
const records = (state) => state.metrics.tasks.reduce((all, task) => all + Object.values(task.splits ?? {}).reduce((a, b) => a + b, 0), 0);
const written = (state) => Object.values(state.metrics.sinks).reduce((a, b) => a + b, 0);

// Shares of the time: busy is measured; the rest goes to blocked and starved by how many steps ended so.
function shares(task, was, seconds) {
  if (!was || seconds <= 0 || task.busy_ms < was.busy_ms) return { busy: null, blocked: null, starved: null };
  const busy = Math.min(1, (task.busy_ms - was.busy_ms) / 1000 / seconds);
  const blocked = task.blocked + task.no_room - was.blocked - was.no_room, starved = task.starved - was.starved;
  const steps = Math.max(1, blocked + starved);
  return { busy, blocked: ((1 - busy) * blocked) / steps, starved: ((1 - busy) * starved) / steps };
}
function stages(now) {
  const were = tasksBefore(), seconds = spent(now), found = new Map();
  for (const task of now.metrics.tasks) {
    const stage = Number(task.id.split(".")[0]), part = shares(task, were.get(task.id), seconds);
    const one = found.get(stage) ?? { rate: null, busy: null, blocked: null, starved: null, processed: 0 };
    const speed = perSecond(task.processed, were.get(task.id)?.processed, seconds);
    one.rate = speed === null ? one.rate : (one.rate ?? 0) + speed;
    one.processed += task.processed;
    for (const name of ["busy", "blocked", "starved"]) one[name] = part[name] === null ? one[name] : Math.max(one[name] ?? 0, part[name]);
    found.set(stage, one);
  }
  return found;
}
// What holds the others up: behind a stage that is blocked, the first one that is not.
function holding(found) {
  const held = new Set();
  const follow = (stage, seen) => {
    if (seen.has(stage)) return;
    seen.add(stage);
    for (const line of job.graph.lines.filter((one) => one.source === stage)) {
      const next = found.get(line.target);
      if (next && (next.blocked ?? 0) < 0.2 && (next.busy ?? 0) > 0.2) held.add(line.target);
      else if (next && (next.blocked ?? 0) >= 0.2) follow(line.target, seen);
    }
  };
  for (const [stage, one] of found) if ((one.blocked ?? 0) >= 0.2) follow(stage, new Set());
  if (!held.size) for (const [stage, one] of found) if ((one.busy ?? 0) >= 0.8) held.add(stage);
  return held;
}

function shape() {
  document.title = `${job.job} · streamdsl`;
  $("job").textContent = job.job;
  const picture = $("picture"), graph = job.graph;
  picture.setAttribute("viewBox", `0 0 ${graph.width} ${graph.height}`);
  picture.setAttribute("width", graph.width);
  picture.setAttribute("height", graph.height);
  const head = drawn("marker", { id: "head", viewBox: "0 0 8 8", refX: 8, refY: 4, markerWidth: 8, markerHeight: 8, orient: "auto" });
  head.append(drawn("path", { class: "head", d: "M0 0 L8 4 L0 8 z" }));
  const defs = drawn("defs");
  defs.append(head);
  picture.replaceChildren(defs);
  graph.lines.forEach((line, at) => {
    picture.append(drawn("path", { class: "line", d: line.path, "marker-end": "url(#head)" }));
    picture.append(drawn("text", { id: `line-${at}`, class: "soft", x: line.at[0] + 6, y: line.at[1] + 4 }, line.text));
  });
  for (const box of graph.boxes) {
    const group = drawn("g");
    group.append(drawn("title", {}, box.name));
    group.append(drawn("rect", { id: `box-${box.number}`, class: `box ${box.kind}`, x: box.x, y: box.y, width: box.width, height: box.height, rx: 6 }));
    box.lines.slice(0, -1).forEach((text, row) => group.append(drawn("text", { class: row ? "" : "verb", x: box.x + 10, y: box.y + 22 + 16 * row }, text)));
    group.append(drawn("text", { id: `rate-${box.number}`, class: "soft", x: box.x + 10, y: box.y + box.height - 14 }, ""));
    for (const name of ["busy", "blocked", "starved"]) group.append(drawn("rect", { id: `${name}-${box.number}`, class: `s-${name}`, x: box.x, y: box.y + box.height - 5, width: 0, height: 4 }));
    picture.append(group);
  }
  $("plans").replaceChildren(...Object.entries(job.plans).map(([title, text]) => element("details", {}, element("summary", {}, title), element("pre", { tabindex: 0 }, text))));
  table("settings", ["Setting", ["Value", "text"]], Object.entries(job.config).map(([name, value]) => [name, [value, "text"]]));
}

function graphOf(found, held) {
  for (const box of job.graph.boxes) {
    const one = found.get(box.number);
    if (!one) continue;
    $(`box-${box.number}`).classList.toggle("holds", held.has(box.number));
    $(`rate-${box.number}`).textContent = `${rate(one.rate)} · busy ${share(one.busy)}${held.has(box.number) ? " · holds up" : ""}`;
    // Of several tasks each figure is that of the worst one: together they may be more than all of the time.
    const all = Math.max(1, (one.busy ?? 0) + (one.blocked ?? 0) + (one.starved ?? 0));
    let x = box.x;
    for (const name of ["busy", "blocked", "starved"]) {
      const width = (box.width * (one[name] ?? 0)) / all, bar = $(`${name}-${box.number}`);
      bar.setAttribute("x", x);
      bar.setAttribute("width", Math.max(0, width));
      x += width;
    }
  }
  job.graph.lines.forEach((line, at) => { $(`line-${at}`).textContent = `${line.text} ${rate(found.get(line.source)?.rate ?? null)}`; });
}

function tasksOf(now, held) {
  const were = tasksBefore(), seconds = spent(now);
  table("tasks", [["Task", "text"], ["Runs", "text"], "In", "Rate", "Busy", "Blocked", "Starved", "No room", "Bad records", "Watermark is behind by"], now.metrics.tasks.map((task) => {
    const part = shares(task, were.get(task.id), seconds), stage = Number(task.id.split(".")[0]);
    return [task.id, [task.name + (held.has(stage) ? " – holds up the others" : ""), `text${held.has(stage) ? " bad" : ""}`], number(task.processed), rate(perSecond(task.processed, were.get(task.id)?.processed, seconds)),
      [share(part.busy), "busy"], [share(part.blocked), part.blocked > 0.2 ? "blocked" : ""], share(part.starved), number(task.no_room), [number(task.rejected ?? 0), task.rejected ? "bad" : ""], task.idle ? "idle" : lag(task.watermark, now.at_ms)];
  }));
  const columns = ["late", "dead_letters", "errors", "filtered", "null_keys", "emitted", "written", "keys", "open_windows"];
  const others = (figures) => Object.entries(figures).filter(([name]) => !columns.includes(name)).map(([name, value]) => `${name} ${value}`).join(", ");
  table("figures", [["Operator", "text"], "Late", "Dead letters", "Errors", "Filtered", "Null keys", "Emitted", "Written", "Keys", "Open windows", ["More", "text"]], Object.entries(now.metrics.operators).map(([name, figures]) => [
    name, ...columns.map((column) => [figures[column] === undefined ? "" : number(figures[column]), ["late", "dead_letters", "errors"].includes(column) && figures[column] ? "warn" : ""]), [others(figures), "text"]]));
}

function splitsOf(now) {
  const rows = [];
  for (const task of now.metrics.tasks) for (const [split, taken] of Object.entries(task.splits ?? {})) {
    const key = `${task.id}/${split}`, known = moved.get(key), waiting = task.lag?.[split], open = task.uncommitted?.[split];
    if (!known || known.taken !== taken) moved.set(key, { taken, since: now.at_ms });
    const still = (now.at_ms - moved.get(key).since) / 1000, stands = still >= STANDS_STILL_S && (waiting > 0 || open > 0);
    rows.push([split, [task.name, "text"], number(taken), number(waiting), number(open), lag(task.watermarks?.[split], now.at_ms), [stands ? `stands still for ${Math.round(still)} s` : task.ended ? "ended" : "", stands ? "text bad" : "text"]]);
  }
  table("splits", [["Partition", "text"], ["Task", "text"], "Read", "Waiting", "Uncommitted", "Watermark is behind by", ["", "text"]], rows);
}

function checkpointsOf(now) {
  const history = now.metrics.checkpoints.history ?? [], picture = $("timeline"), most = Math.max(1, ...history.map((one) => one.duration_ms));
  const text = JSON.stringify(history);
  if (picture.dataset.was !== text) {
    picture.dataset.was = text;
    picture.setAttribute("viewBox", "0 0 1000 96");
    picture.setAttribute("preserveAspectRatio", "none");
    picture.replaceChildren(...history.map((one, at) => {
      const height = Math.max(2, (88 * one.duration_ms) / most), bar = drawn("rect", { class: `bar${one.error ? " failed" : ""}`, x: 1000 - 10 * (history.length - at), y: 96 - height, width: 8, height });
      bar.append(drawn("title", {}, `${one.id}: ${one.duration_ms} ms${one.error ? `, ${one.error}` : ""}`));
      return bar;
    }));
  }
  table("history", ["Checkpoint", ["Ended", "text"], "Took", "Size", ["Failed because", "text"]], [...history].reverse().slice(0, 20).map((one) => [one.id, [clock(one.at_ms), "text"], `${number(one.duration_ms)} ms`, one.error ? "–" : bytes(one.bytes), [one.error ?? "", "text bad"]]));
}

function rowsOf(now) {
  const place = $("samples"), text = JSON.stringify(now.rows);
  if (place.dataset.was === text) return;
  place.dataset.was = text;
  if (!job.rows) { place.replaceChildren(element("p", { class: "note" }, "Rows are not shown: --ui-rows.")); return; }
  place.replaceChildren(...Object.entries(now.rows).map(([name, rows]) => {
    const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
    const cells = (row) => columns.map((column) => element("td", { class: "text" }, row[column] === null ? "–" : typeof row[column] === "object" ? JSON.stringify(row[column]) : row[column]));
    return element("div", { class: "wide", tabindex: 0, role: "region", "aria-label": `Rows of ${name}` }, element("table", {}, element("caption", {}, `${name}, the latest first`),
      element("thead", {}, element("tr", {}, ...columns.map((column) => element("th", { scope: "col", class: "text" }, column)))), element("tbody", {}, ...rows.map((row) => element("tr", {}, ...cells(row))))));
  }));
  if (!Object.keys(now.rows).length) place.replaceChildren(element("p", { class: "note" }, "No sink has written anything since the page was opened."));
}

function show(now) {
  const metrics = now.metrics, seconds = spent(now), state = metrics.state, checkpoints = metrics.checkpoints;
  $("phase").textContent = now.health.status;
  $("phase").className = `badge ${now.health.status}`;
  $("when").textContent = `${clock(now.at_ms)} UTC`;
  const problems = $("problems"), told = now.health.problems.join("\n");
  if (problems.dataset.was !== told) { problems.dataset.was = told; problems.replaceChildren(...now.health.problems.map((text) => element("li", {}, text))); }
  const lags = metrics.tasks.flatMap((task) => Object.values(task.lag ?? {})).filter((one) => one !== null);
  const late = Object.values(metrics.operators).reduce((all, one) => all + (one.late ?? 0), 0);
  const totals = {
    "Records in": [number(records(now)), "records-in"], "In": [rate(before ? perSecond(records(now), records(before), seconds) : null), "rate-in"],
    "Records out": [number(written(now)), "records-out"], "Out": [rate(before ? perSecond(written(now), written(before), seconds) : null), "rate-out"],
    "Waiting": [lags.length ? number(lags.reduce((a, b) => a + b, 0)) : "–", "lag"], "Late": [number(late), "late"],
    "Latency p50 / p99": [`${metrics.latency_ms.p50?.toFixed(1) ?? "–"} / ${metrics.latency_ms.p99?.toFixed(1) ?? "–"} ms`, "latency"],
    "State": [`${number(state.keys)} keys, ${bytes(state.bytes)}`, "state-size"],
    "Checkpoint": [checkpoints.last_id === null ? "none yet" : `${checkpoints.last_id}, ${checkpoints.last_duration_ms} ms`, "checkpoint"],
    "Failed checkpoints": [number(checkpoints.failed), "failed"],
  };
  $("totals").replaceChildren(...Object.entries(totals).map(([name, [value, id]]) => element("div", {}, element("dt", {}, name), element("dd", { id }, value))));
  const found = stages(now), held = holding(found);
  graphOf(found, held); tasksOf(now, held); splitsOf(now); checkpointsOf(now); rowsOf(now);
  table("log", [["At", "text"], ["Level", "text"], ["Message", "text"]], [...now.errors].reverse().map((one) => [[clock(one.at_ms), "text"], [one.level, one.level === "ERROR" ? "text bad" : "text warn"], [one.text, "text"]]));
  // Rates over about three seconds: one alone jumps about.
  last = [...(last ?? []), now].slice(-4);
  before = last[0];
  document.body.dataset.looks = Number(document.body.dataset.looks ?? 0) + 1;
}

async function begin() {
  job = await (await fetch("api/job")).json();
  shape();
  const events = new EventSource("api/events");
  events.onmessage = (event) => show(JSON.parse(event.data));
  events.onerror = () => { $("phase").textContent = "the worker does not answer"; $("phase").className = "badge failed"; };
}
begin().catch((error) => { $("phase").textContent = String(error); });

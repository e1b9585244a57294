// Compute the quadratic test vectors in plain JavaScript: node reader.js DIRECTORY > results.json
const fs = require("fs");
const path = require("path");

const numbers = (x) => (Array.isArray(x) ? x.map(numbers) : Number(x));
const zeros = (n, p) => Array.from({ length: n }, () => new Array(p).fill(0));
const dot = (x, y) => x.reduce((sum, entry, i) => sum + entry * y[i], 0);
const times = (matrix, x) => matrix.map((row) => dot(row, x));
const column = (matrix, j) => matrix.map((row) => row[j]);

// Differentiate the run forwards: s is d theta/d lambda, which each step takes along.
function hypergradient(file, averaged) {
  const a = arraysOf(file.problem.arrays), lam = numbers(file.lambda), { steps, samples } = file.settings;
  const n = file.theta0.length, p = lam.length, gamma = Number(file.settings.step_size);
  const weights = a.weights ?? zeros(n, p), mixed = a.outer_mixed ?? zeros(n, p);
  const direct = a.direct ?? zeros(p, p), slope = a.direct_slope ?? new Array(p).fill(0);
  const noise = file.noise === null ? zeros(steps, n) : numbers(file.noise), count = averaged ? samples : 1;
  let s = a.start_jacobian ?? zeros(n, p);
  let theta = numbers(file.theta0).map((entry, i) => entry + dot(s[i], lam));
  const total = new Array(p).fill(0);
  // Without an array `weights` there is no such term in the inner loss at all.
  const curvature = a.weights ? times(weights, lam).map(Math.exp) : new Array(n).fill(0);
  const hessian = a.hessian.map((row, i) => row.map((entry, j) => entry + (i === j ? curvature[i] : 0)));
  for (let t = 0; t < steps; t++) {
    const pulled = times(a.coupling, lam), gradient = times(hessian, theta).map((g, i) => g - pulled[i] - a.shift[i]);
    const cross = (i, j) => -a.coupling[i][j] + curvature[i] * theta[i] * weights[i][j];
    s = s.map((row, i) => row.map((entry, j) => entry - gamma * (dot(hessian[i], column(s, j)) + cross(i, j))));
    theta = theta.map((entry, i) => entry - gamma * gradient[i] + noise[t][i]);
    if (t + 1 <= steps - count) continue;
    const byTheta = a.outer_slope.map((q, i) => dot(a.outer_hessian[i], theta) + q + dot(mixed[i], lam));
    for (let j = 0; j < p; j++) {
      const byLam = dot(direct[j], lam) + slope[j] + dot(column(mixed, j), theta);
      total[j] += (byLam + dot(byTheta, column(s, j))) / count;
    }
  }
  return total;
}

const arraysOf = (arrays) => Object.fromEntries(Object.entries(arrays).map(([name, x]) => [name, numbers(x)]));
const results = {}, directory = process.argv[2];
for (const name of fs.readdirSync(directory).filter((found) => found.endsWith(".json")).sort()) {
  const file = JSON.parse(fs.readFileSync(path.join(directory, name), "utf8"));
  for (const { id, estimand, estimator } of file.problem.kind === "quadratic" ? file.vectors : []) {
    if (estimator !== "exact" || !["unrolled", "pathwise"].includes(estimand)) continue;
    results[id] = hypergradient(file, estimand === "pathwise").map(String);
  }
}
console.log(JSON.stringify(results, null, 1));

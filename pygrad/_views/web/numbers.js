// ---- numbers.js: numbers as Python writes them.

// A number's sign, decimal digits and exponent, from JavaScript's "-1.25e-7".
function decimal(text) {
  const [, sign, head, tail, exponent] = /^(-?)(\d)(?:\.(\d+))?e([+-]\d+)$/.exec(text);
  return { sign, digits: head + (tail || ""), exponent: Number(exponent) };
}

function written({ sign, digits, exponent }, above, suffix) {
  digits = digits.replace(/0+$/, "") || "0";
  if (exponent < -4 || exponent >= above) {
    const size = String(Math.abs(exponent)).padStart(2, "0");
    return `${sign}${digits[0]}${digits.length > 1 ? `.${digits.slice(1)}` : ""}e${exponent < 0 ? "-" : "+"}${size}`;
  }
  if (exponent < 0) return `${sign}0.${"0".repeat(-exponent - 1)}${digits}`;
  const whole = digits.slice(0, exponent + 1).padEnd(exponent + 1, "0"), rest = digits.slice(exponent + 1);
  return `${sign}${whole}${rest ? `.${rest}` : suffix}`;
}

const unwritable = (x) => (Number.isNaN(x) ? "nan" : x > 0 ? "inf" : "-inf");

// As f"{x:.{precision}g}".
function general(x, precision) {
  if (!Number.isFinite(x)) return unwritable(x);
  if (x === 0) return Object.is(x, -0) ? "-0" : "0";
  let text = x.toExponential(precision - 1);
  const longer = decimal(x.toExponential(precision));
  if (longer.digits.endsWith("5") && "02468".includes(longer.digits[precision - 1])) {
    // Halfway, if no digit follows: Python rounds to the even digit, JavaScript away from 0.
    if (/^0*$/.test(decimal(x.toExponential(100)).digits.slice(precision + 1)))
      return written({ ...longer, digits: longer.digits.slice(0, precision) }, precision, "");
  }
  return written(decimal(text), precision, "");
}

// As repr(x).
function exact(x) {
  if (!Number.isFinite(x)) return unwritable(x);
  if (x === 0) return Object.is(x, -0) ? "-0.0" : "0.0";
  return written(decimal(x.toExponential()), 16, ".0");
}

// A number from JSON, where inf and nan are text.
const numberOf = (x) => (typeof x === "number" ? x : { inf: Infinity, "-inf": -Infinity }[x] ?? NaN);

const counted = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;

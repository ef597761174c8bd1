// Times as people read them: message times, day dividers, and Slack's <!date^…> formats.

const at = (ts) => new Date(Number(ts) * 1000);
const format = (options) => (date) => date.toLocaleString([], options);

const time = format({ hour: "2-digit", minute: "2-digit" });
const dayMonth = format({ weekday: "long", day: "numeric", month: "long" });

const startOfDay = (date) => new Date(date.getFullYear(), date.getMonth(), date.getDate());
const daysAgo = (date) => Math.round((startOfDay(new Date()) - startOfDay(date)) / 86400000);
const NEAR = { "-1": "tomorrow", 0: "today", 1: "yesterday" };
const near = (date) => NEAR[daysAgo(date)];

const capital = (text) => text[0].toUpperCase() + text.slice(1);

export const timeOf = (ts) => time(at(ts));
export const fullTimeOf = (ts) => format({ dateStyle: "full", timeStyle: "medium" })(at(ts));
export const dayOf = (ts) => capital(near(at(ts)) ?? dayMonth(at(ts)));
export const isoOf = (ts) => at(ts).toISOString();

export function agoOf(ts) {
  const minutes = Math.round((Date.now() - at(ts)) / 60000);
  if (minutes < 1) return "just now";
  if (minutes < 60) return `${minutes} min ago`;
  if (minutes < 24 * 60) return `${Math.round(minutes / 60)} h ago`;
  return `${Math.round(minutes / 1440)} d ago`;
}

const date = format({ day: "numeric", month: "long", year: "numeric" });
const shortDate = format({ day: "numeric", month: "short", year: "numeric" });
const longDate = format({ weekday: "long", day: "numeric", month: "long", year: "numeric" });

const DATE_TOKENS = {
  date_num: (day) => `${day.getFullYear()}-${String(day.getMonth() + 1).padStart(2, "0")}-${String(day.getDate()).padStart(2, "0")}`,
  date, date_short: shortDate, date_long: longDate,
  date_pretty: (day) => near(day) ?? date(day),
  date_short_pretty: (day) => near(day) ?? shortDate(day),
  date_long_pretty: (day) => near(day) ?? longDate(day),
  time, time_secs: format({ hour: "2-digit", minute: "2-digit", second: "2-digit" }),
  ago: (day) => agoOf(day / 1000),
};

// "{date_short} at {time}" with the reader's own time zone; an unknown token stays as it is.
export const slackDate = (seconds, pattern) =>
  pattern.replace(/\{(\w+)\}/g, (literal, token) => DATE_TOKENS[token]?.(at(seconds)) ?? literal);

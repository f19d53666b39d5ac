# rules — who may include whom. awk -f tests/rules.awk src/RULES FILE…: a line for each breach, exit code 1 if any.
# A file's room is its folder under src/; src/main.c is room main; what lies in cuda/ is room cuda.

function breach(text) {
  print FILENAME ":" FNR ": " text
  breaches++
}

function room_of(path,  part) {
  if (path ~ /^cuda\//) return "cuda"
  sub(/^src\//, "", path)
  if (path ~ /^main\./) return "main"
  return split(path, part, "/") > 1 ? part[1] : ""
}

# The path from the root of an included file: "../" and plain names are relative to the file that includes.
function resolve(header,  folder) {
  folder = FILENAME
  sub(/[^\/]*$/, "", folder)
  if (header !~ /^\.\.\// && header ~ /\// && room_of("src/" header) in may) return "src/" header
  if (header ~ /^cuda\//) return header
  while (header ~ /^\.\.?\//) {
    if (header ~ /^\.\.\//) sub(/[^\/]*\/$/, "", folder)
    sub(/^\.\.?\//, "", header)
  }
  return folder header
}

function starts(text, head) { return substr(text, 1, length(head)) == head }

function check_only(header,  h, n, i, place, allowed) {
  for (h in only) {
    if (!starts(header, h)) continue
    n = split(only[h], place, " ")
    allowed = 0
    for (i = 1; i <= n; i++) if (starts(FILENAME, place[i])) allowed = 1
    if (!allowed) breach("only " only[h] " may include " header)
  }
}

function check_include(header, quoted,  to) {
  check_only(header)
  if (!quoted) return
  to = room_of(resolve(header))
  if (to != "" && to != room && index(may[room], " " to " ") == 0) breach("room " room " may not include " to)
}

# ---- the rules
FILENAME == ARGV[1] {
  sub(/#.*/, "")
  if (NF == 0) next
  value = $0
  sub(/^[^:]*:[ \t]*/, "", value)
  sub(/[ \t]+$/, "", value)
  if ($1 == "only") { sub(/:$/, "", $2); only[$2] = value }
  else if ($1 == "word") { sub(/:$/, "", $2); limit[$2] = value + 0 }
  else { sub(/:$/, "", $1); may[$1] = " " value " " }
  next
}

# ---- the sources
FNR == 1 {
  room = room_of(FILENAME)
  if (!(room in may)) breach("room \"" room "\" is not in " ARGV[1])
}
/^[ \t]*#[ \t]*include[ \t]*["<]/ {
  header = $0
  sub(/^[^"<]*/, "", header)
  quoted = substr(header, 1, 1) == "\""
  header = substr(header, 2)
  sub(/[">].*/, "", header)
  check_include(header, quoted)
}
{
  for (w in limit)
    if (!((w, FILENAME) in used) && (" " $0 " ") ~ ("[^A-Za-z0-9_]" w "[^A-Za-z0-9_]")) {
      used[w, FILENAME] = 1
      where[w] = where[w] " " FILENAME
      if (++files[w] > limit[w]) breach(w " may be used in " limit[w] " files and is used in" where[w])
    }
}

END { exit breaches > 0 }

# rules — which rooms may include which, no include cycles inside a room, menu words only in their own files.
# awk -f tests/rules.awk src/RULES FILE…: prints one line per violation; exit code 1 if there are any.
# A file's room is its folder under src/; src/main.c is room main; all of cuda/ is room cuda. A module is a header and
# the source of the same name.

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

# The path of an included file from the root: "../" and plain names are relative to the including file.
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

function module_of(path) {
  sub(/\.[a-z]+$/, "", path)
  return path
}

# Add an edge to the graph of modules if both ends are in the same room.
function note_edge(from, to) {
  if (from == to || room_of(from "/") != room_of(to "/") || (from, to) in edge) return
  edge[from, to] = FILENAME ":" FNR
  next_of[from] = next_of[from] " " to
  modules[from] = 1
}

# Depth-first search; a module that is already on the path closes a cycle.
function visit(m, path,  n, i, to, list) {
  if (state[m] == 2) return
  state[m] = 1
  n = split(next_of[m], list, " ")
  for (i = 1; i <= n; i++) {
    to = list[i]
    if (state[to] == 1) {
      print edge[m, to] ": a circle of files: " substr(path, index(path, to)) " -> " m " -> " to
      breaches++
    } else visit(to, path == "" ? m : path " -> " m)
  }
  state[m] = 2
}

# Read the words of a menu from the line "#define NAME(ROW) ROW(a) ROW(b)" of the words file.
function read_menu(name, own,  line, word, files) {
  while ((getline line < words_file) > 0) {
    if (line !~ ("^#define " name "[(]ROW[)]")) continue
    sub(/^#define [A-Z]+[(]ROW[)]/, "", line)
    while (match(line, /ROW[(][a-z0-9_]+[)]/)) {
      word = substr(line, RSTART + 4, RLENGTH - 5)
      line = substr(line, RSTART + RLENGTH)
      menu_word[++menu_words] = word
      files = own
      gsub(/%/, word, files)
      menu_own[word] = menu_own[word] " " files " " # a word can be in several menus; symbols name their menu
      symbol_own[menu_words] = " " files " "
      menu_symbol[menu_words] = tolower(name)
      sub(/s$/, "", menu_symbol[menu_words])
      menu_symbol[menu_words] = menu_symbol[menu_words] "_" word
    }
  }
  close(words_file)
}

function has_symbol(line, symbol) { return line ~ ("(^|[^A-Za-z0-9_])" symbol "([^A-Za-z0-9_]|$)") }

# Whether the line names the choice other than by its symbol: as the value of a key, in quotes or, if the word is
# distinct, anywhere.
function names(line, word) {
  if (line ~ ("(objective|model[.]name|sampler|schedule|estimator|diffusion[.]time) = " word "([^A-Za-z0-9_]|$)")) return 1
  if (word in is_key) return 0
  if (index(line, "\"" word "\"")) return 1
  return word in is_distinct && line ~ ("(^|[^A-Za-z0-9_.])" word "([^A-Za-z0-9_.]|$)")
}

function check_menus(line,  i) {
  for (i = 1; i <= menu_words; i++)
    if (((!index(symbol_own[i], " " FILENAME " ") && has_symbol(line, menu_symbol[i])) ||
         (!index(menu_own[menu_word[i]], " " FILENAME " ") && names(line, menu_word[i]))) && !((FNR, menu_word[i]) in told)) {
      told[FNR, menu_word[i]] = 1
      breach(menu_word[i] " is named outside its own file")
    }
}

# ---- the rules
FILENAME == ARGV[1] {
  sub(/#.*/, "")
  if (NF == 0) next
  value = $0
  sub(/^[^:]*:[ \t]*/, "", value)
  sub(/[ \t]+$/, "", value)
  if ($1 == "only") { sub(/:$/, "", $2); only[$2] = value }
  else if ($1 == "words:") words_file = value
  else if ($1 == "distinct:") { n = split(value, list, " "); for (i = 1; i <= n; i++) is_distinct[list[i]] = 1 }
  else if ($1 == "keys:") { n = split(value, list, " "); for (i = 1; i <= n; i++) is_key[list[i]] = 1 }
  else if ($1 == "menu") { sub(/:$/, "", $2); read_menu($2, value) }
  else if ($1 == "word") { sub(/:$/, "", $2); limit[$2] = value + 0 }
  else { sub(/:$/, "", $1); may[$1] = " " value " " }
  next
}

# ---- the sources
FNR == 1 {
  delete told
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
  if (quoted && resolve(header) ~ /[.](h|cuh)$/) note_edge(module_of(FILENAME), module_of(resolve(header)))
}
FILENAME != words_file { check_menus($0) }
{
  for (w in limit)
    if (!((w, FILENAME) in used) && (" " $0 " ") ~ ("[^A-Za-z0-9_]" w "[^A-Za-z0-9_]")) {
      used[w, FILENAME] = 1
      where[w] = where[w] " " FILENAME
      if (++files[w] > limit[w]) breach(w " may be used in " limit[w] " files and is used in" where[w])
    }
}

END {
  for (m in modules) if (state[m] == 0) visit(m, "")
  exit breaches > 0
}

/* page — help texts: titles, paragraphs and lists, laid out for a terminal or written as roff for `man`.
 * Lines go to stdout through log, rank 0 only. Terms, details and texts are plain UTF-8 without newlines. */
#pragma once

typedef struct PageStyle {
  void (*title)(const char *name, const char *version, const char *purpose);
  void (*section)(const char *title);
  void (*part)(const char *title); /* of a section */
  void (*text)(const char *text);  /* a paragraph */
  void (*code)(const char *line);  /* never wrapped */
  /** row — a term, and what it means from that column on. */
  void (*row)(int column, const char *term, const char *text);
  /** entry — a term with a detail in brackets, and its meaning below. */
  void (*entry)(const char *term, const char *detail, const char *text);
} PageStyle;

extern const PageStyle page_plain; /* as wide as the terminal, 60 to 100 columns; 80 elsewhere */
extern const PageStyle page_roff;  /* in the macros of man(7) */

#!/usr/bin/env bash
# MariaDB 11.8.9: a column of type UUID has another order than the texts that it takes and gives. Version 7 sorts as its text; version
# 4 sorts by its last group first, and so before every version 7, whatever it begins with. ORDER BY, ranges, MIN and MAX all follow that
# order. Guessed: values that are written and read as text in one form sort as that text does, so that a page of a table may be merged
# with a list that a program has sorted itself, and a table may turn from CHAR(36) to UUID without a change of its pages.
# Needs a Debian machine (its apt sources and keys), not root.
source "$(dirname "${BASH_SOURCE[0]}")/lib/mariadb.sh"

"${client[@]}" finding -e "CREATE TABLE files (id UUID PRIMARY KEY, as_text CHAR(36) CHARACTER SET ascii) ENGINE=InnoDB;
  INSERT INTO files VALUES
    ('00000001-0000-4000-8000-0000000000ff', '00000001-0000-4000-8000-0000000000ff'),
    ('ffffffff-0000-4000-8000-000000000001', 'ffffffff-0000-4000-8000-000000000001'),
    ('0193c000-0000-7000-8000-000000000001', '0193c000-0000-7000-8000-000000000001'),
    ('0193c001-0000-7000-8000-000000000000', '0193c001-0000-7000-8000-000000000000')"
"${client[@]}" -e 'SELECT VERSION()'
look() { "${client[@]}" finding -e "$1" 2>&1; }
actual="$(look 'SELECT id FROM files ORDER BY as_text')"
seen 'by text' 00000001-0000-4000-8000-0000000000ff 0193c000-0000-7000-8000-000000000001 \
  0193c001-0000-7000-8000-000000000000 ffffffff-0000-4000-8000-000000000001
actual="$(look 'SELECT id FROM files ORDER BY id')"
seen 'by UUID' ffffffff-0000-4000-8000-000000000001 00000001-0000-4000-8000-0000000000ff \
  0193c000-0000-7000-8000-000000000001 0193c001-0000-7000-8000-000000000000
actual="$(look "SELECT id FROM files WHERE id > '00000001-0000-4000-8000-0000000000ff' ORDER BY id")"
seen 'behind the first text: the last text is not there' 0193c000-0000-7000-8000-000000000001 \
  0193c001-0000-7000-8000-000000000000
actual="$(look 'SELECT MAX(id), MAX(as_text) FROM files')"
seen 'the greatest, as UUID and as text' $'0193c001-0000-7000-8000-000000000000\tffffffff-0000-4000-8000-000000000001'

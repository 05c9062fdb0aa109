// SPDX-License-Identifier: MIT
#include <crayon/io/csv.hpp>

#include "../catch.hpp"

namespace {

std::string csv_fault(std::string_view text) {
  const auto table = crayon::io::parse_csv("t.csv", text);
  return table ? "" : table.error().text;
}

}  // namespace

TEST_CASE("csv: quotes, line ends, lines", "[io]") {
  const auto table = crayon::io::parse_csv(
      "t.csv", "\xEF\xBB\xBFtext,n\r\n\"a, \"\"b\"\"\nc\",1\r\n\n,-2.5e1\nlast,0x");
  REQUIRE(table);
  CHECK(table->columns == std::vector<std::string>{"text", "n"});
  REQUIRE(table->rows.size() == 3);
  CHECK(table->rows[0] == std::vector<std::string>{"a, \"b\"\nc", "1"});
  CHECK(table->rows[1] == std::vector<std::string>{"", "-2.5e1"});
  CHECK(table->lines == std::vector<std::size_t>{2, 5, 6});
  CHECK(crayon::io::number_column(*table, "n").error().text ==
        "t.csv:6: column \"n\" is \"0x\", expected a number");
  CHECK(crayon::io::column_of(*table, "m").error().text ==
        "t.csv: no column \"m\"; there are text n");
}

TEST_CASE("csv: what is not a table is refused", "[io]") {
  CHECK(csv_fault("") == "t.csv: no rows");
  CHECK(csv_fault("a,b\n") == "t.csv: no rows");
  CHECK(csv_fault("a,a\n1,2\n") == "t.csv:1: two columns are named \"a\"");
  CHECK(csv_fault("a,b\n1,2\n3\n") == "t.csv:3: 1 cells, expected 2");
  CHECK(csv_fault("a,b\n1,\"2\n3,4\n") == "t.csv:2: a quote is not closed");
  CHECK(csv_fault("a,b\n1,\"2\"x\n") == "t.csv:2: text after a closing quote");
}

TEST_CASE("csv: numbers and flags", "[io]") {
  const auto table = crayon::io::parse_csv("t.csv", "n,f\n1.5,True\n-0,FALSE\n1e3,1\n7,0\n");
  REQUIRE(table);
  const auto numbers = crayon::io::number_column(*table, "n");
  REQUIRE(numbers);
  CHECK(*numbers == std::vector<double>{1.5, 0, 1000, 7});
  const auto flags = crayon::io::flag_column(*table, "f");
  REQUIRE(flags);
  CHECK(*flags == std::vector<std::uint8_t>{1, 0, 1, 0});
  const auto wrong = crayon::io::parse_csv("t.csv", "n,f\nnan,maybe\n1,2\n");
  REQUIRE(wrong);
  CHECK_FALSE(crayon::io::number_column(*wrong, "n"));
  CHECK(crayon::io::flag_column(*wrong, "f").error().text ==
        "t.csv:2: column \"f\" is \"maybe\", expected 0, 1, false or true");
}

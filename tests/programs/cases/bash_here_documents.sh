# Here-documents small and large (bash uses a pipe or a temporary file), here-strings, nested.
# sandbox: whole
name=world
cat <<END
hello $name $((6 * 7)) $(echo substituted)
END
cat <<'END'
literal $name $(echo no)
END
cat <<-END
	tabs removed
	END
cat <<A; cat <<B
first
A
second
B
tr a-z A-Z <<<"here string $name"
big=$(seq 1 60000)
sha256sum <<<"$big"
wc <<END
$big
END
while read -r a <&3 && read -r b <&4; do echo "$a$b"; done 3<<X 4<<Y
1
2
X
a
b
Y
bash <<'END'
cat <<INNER
inner $(cat <<DEEP
deep
DEEP
)
INNER
exit 3
END
echo "status $?"
cat >written <<END
into a file
END
cat written - <<END | sort -r
after
END
f() { cat; }; f <<<"to a function"
exec 5<<END
kept open
END
cat <&5
ed=$(mktemp -p .); cat >"$ed" <<<x; rm "$ed"

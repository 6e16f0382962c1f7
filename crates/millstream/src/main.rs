fn main() {
    println!("millstream");
}
